/**
 * `loadFromTransformersEnv`: loads an adapter from the location from which transformers.js would load a model of that name: a folder in
 * `env.localModelPath` or `env.cacheDir`, or the host `env.remoteHost`. `@fourierft/core` makes the requests to the hub and maintains its cache.
 */
import {
  type Adapter,
  type AdapterSource,
  CONFIG_FILE,
  checkRevision,
  checkSubfolder,
  FourierFTError,
  type LoadAdapterOptions,
  loadAdapter,
  savePretrained,
} from '@fourierft/core'
import { platform } from '#platform'
import { DEFAULT_HOST, DEFAULT_TEMPLATE, isChosenFolder, type Settings, settings } from './environment.js'

/** Sources that can only be a path or a URL. */
const PATH = /^(\.{0,2}[/\\]|~|[a-z]:|\.{1,2}$|[a-z][a-z0-9+.-]*:)/i

/**
 * Loads an adapter from the locations in `env`. A path or URL is loaded directly.
 *
 * @throws {FourierFTError} the errors of `loadAdapter` of `@fourierft/core`
 */
export async function loadFromTransformersEnv(
  source: AdapterSource,
  options: LoadAdapterOptions = {},
): Promise<Adapter> {
  if (typeof source !== 'string' || PATH.test(source)) return loadAdapter(source, options)
  if (await platform.isDirectory(source)) return loadAdapter(source, options)
  const env = settings()
  const subfolder = checkSubfolder(options.subfolder)
  const revision = checkRevision(options.revision)
  const { revision: _, ...others } = options
  const revisionPath = [source, revision === 'main' ? '' : revision]
  const folders = [
    ...(env.allowLocalModels && env.localModelPath ? [joinPath(env.localModelPath, source)] : []),
    ...(env.useFSCache && env.cacheDir ? [joinPath(env.cacheDir, ...revisionPath)] : []),
  ]
  for (const folder of folders) {
    if (env.useFS && (await platform.isFile(joinPath(folder, subfolder, CONFIG_FILE))))
      return loadAdapter(asPath(folder), others)
  }
  // In a page, the local path is a URL on the page's server.
  const [onServer] = folders
  if (!env.useFS && env.allowLocalModels && onServer !== undefined && globalThis.location) {
    const adapter = await loadAdapter(new URL(onServer, globalThis.location.href), others).catch(
      unlessMissing,
    )
    if (adapter) return adapter
  }
  const cacheDir = env.useFSCache && isChosenFolder(env.cacheDir) ? { cacheDir: env.cacheDir } : {}
  if (!env.allowRemoteModels) {
    return loadAdapter(source, { ...cacheDir, ...options, offline: true }).catch((cause) => {
      throw isMissing(cause) ? downloadForbidden(source, folders, cause) : cause
    })
  }
  const isOffline = options.offline === true
  if (isOffline || options.hubUrl !== undefined || !isMirror(env))
    return loadAdapter(source, { ...cacheDir, ...options })
  const adapter = await loadAdapter(mirrorUrl(source, revision, env), others)
  // transformers.js caches models in the same way. If the adapter cannot be saved, it is loaded anyway.
  if (env.useFS && env.useFSCache && env.cacheDir)
    await savePretrained(adapter, asPath(joinPath(env.cacheDir, ...revisionPath, subfolder))).catch(
      () => undefined,
    )
  return adapter
}

/** Whether `env` specifies a host that only serves files. The host in `HF_ENDPOINT` is a hub, which also has an API. */
function isMirror({ remoteHost, remotePathTemplate }: Settings): boolean {
  const withSlash = (url: string | undefined) => url?.replace(/\/?$/, '/')
  const isHub = [DEFAULT_HOST, withSlash(platform.hubEndpoint())].includes(withSlash(remoteHost))
  return !isHub || remotePathTemplate !== DEFAULT_TEMPLATE
}

/** Returns the URL of a repository on a host that only serves files. */
function mirrorUrl(model: string, revision: string, env: Settings): URL {
  const path = env.remotePathTemplate
    .replaceAll('{model}', () => model.split('/').map(encodeURIComponent).join('/'))
    .replaceAll('{revision}', () => encodeURIComponent(revision))
  const text = joinPath(env.remoteHost, path)
  if (URL.canParse(text) && !model.split('/').includes('..')) return new URL(text)
  throw new FourierFTError(
    'INVALID_OPTION',
    `env.remoteHost: expected the URL of a host, and the name of an adapter on it; received ${env.remoteHost} and ${model}`,
    {
      advice: 'set it to a host of models, such as https://huggingface.co/, or correct the name',
      option: 'env.remoteHost',
      received: model,
    },
  )
}

function joinPath(...parts: readonly string[]): string {
  const [first = '', ...others] = parts.filter((part) => part !== '')
  return others.reduce((path, part) => `${path.replace(/[\\/]+$/, '')}/${part.replace(/^\/+/, '')}`, first)
}

/** Returns the folder as a path that core does not interpret as a repository on the hub. */
function asPath(folder: string): string {
  return PATH.test(folder) ? folder : `./${folder}`
}

function isMissing(error: unknown): boolean {
  return FourierFTError.isInstance(error) && error.code === 'FILE_NOT_FOUND'
}

function unlessMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error
}

function downloadForbidden(source: string, folders: readonly string[], cause: unknown): FourierFTError {
  const searched = [...folders, "the hub's cache"].join(', ')
  return new FourierFTError(
    'FILE_NOT_FOUND',
    `${source}: no adapter in ${searched}, and env.allowRemoteModels of transformers.js forbids downloads`,
    { file: source, expected: folders, cause },
  )
}

/**
 * `loadWithEnv`: loads an adapter from where transformers.js would load a model of that name: a folder in `env.localModelPath`, `env.cacheDir`,
 * or the host `env.remoteHost`. `@fourierft/core` makes the requests to the hub and keeps its cache.
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

/** @throws {FourierFTError} the errors of `loadAdapter` of `@fourierft/core` */
export async function loadWithEnv(source: AdapterSource, options: LoadAdapterOptions = {}): Promise<Adapter> {
  if (typeof source !== 'string' || PATH.test(source)) return loadAdapter(source, options)
  if (await platform.isDirectory(source)) return loadAdapter(source, options)
  const env = settings()
  const subfolder = checkSubfolder(options.subfolder)
  const revision = checkRevision(options.revision)
  const { revision: _, ...others } = options
  const revisionPath = [source, revision === 'main' ? '' : revision]
  const folders = [
    ...(env.allowLocalModels && env.localModelPath ? [joined(env.localModelPath, source)] : []),
    ...(env.useFSCache && env.cacheDir ? [joined(env.cacheDir, ...revisionPath)] : []),
  ]
  for (const folder of folders) {
    if (env.useFS && (await platform.isFile(joined(folder, subfolder, CONFIG_FILE))))
      return loadAdapter(absolute(folder), others)
  }
  // A page has no folders: its local path is a URL of its own server.
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
      throw isMissing(cause) ? notAllowed(source, folders, cause) : cause
    })
  }
  const isOffline = options.offline === true
  if (isOffline || options.hubUrl !== undefined || !isMirror(env))
    return loadAdapter(source, { ...cacheDir, ...options })
  const adapter = await loadAdapter(mirrored(source, revision, env), others)
  // As transformers.js caches models. If the adapter cannot be saved, it is loaded anyway.
  if (env.useFS && env.useFSCache && env.cacheDir)
    await savePretrained(adapter, absolute(joined(env.cacheDir, ...revisionPath, subfolder))).catch(
      () => undefined,
    )
  return adapter
}

/** Whether `env` names a host that is not a hub. The host of `HF_ENDPOINT` is a hub. */
function isMirror({ remoteHost, remotePathTemplate }: Settings): boolean {
  const slashed = (url: string | undefined) => url?.replace(/\/?$/, '/')
  const isHub = [DEFAULT_HOST, slashed(platform.hubEndpoint())].includes(slashed(remoteHost))
  return !isHub || remotePathTemplate !== DEFAULT_TEMPLATE
}

/** The folder of a repository on a host that only serves files. */
function mirrored(model: string, revision: string, env: Settings): URL {
  const path = env.remotePathTemplate
    .replaceAll('{model}', () => model.split('/').map(encodeURIComponent).join('/'))
    .replaceAll('{revision}', () => encodeURIComponent(revision))
  const text = joined(env.remoteHost, path)
  if (URL.canParse(text) && !model.split('/').includes('..')) return new URL(text)
  throw new FourierFTError(
    'INVALID_OPTION',
    `env.remoteHost: expected the URL of a host, and the name of an adapter on it; received ${env.remoteHost} and ${model}`,
    {
      advice: 'set it to a host that has models, such as https://huggingface.co/, or correct the name',
      option: 'env.remoteHost',
      received: model,
    },
  )
}

function joined(...parts: readonly string[]): string {
  const [first = '', ...others] = parts.filter((part) => part !== '')
  return others.reduce((path, part) => `${path.replace(/[\\/]+$/, '')}/${part.replace(/^\/+/, '')}`, first)
}

/** A path that core does not take for a repository of the hub. */
function absolute(folder: string): string {
  return PATH.test(folder) ? folder : `./${folder}`
}

function isMissing(error: unknown): boolean {
  return FourierFTError.isInstance(error) && error.code === 'FILE_NOT_FOUND'
}

function unlessMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error
}

function notAllowed(source: string, folders: readonly string[], cause: unknown): FourierFTError {
  const searched = [...folders, "the hub's cache"].join(', ')
  return new FourierFTError(
    'FILE_NOT_FOUND',
    `${source}: no adapter in ${searched}, and env.allowRemoteModels of transformers.js forbids downloads`,
    { file: source, expected: folders, cause },
  )
}

/**
 * An adapter from where transformers.js would take a model of that name: a folder below `env.localModelPath`, `env.cacheDir`, the host
 * `env.remoteHost`. The hub's own requests and cache are those of `@fourierft/core`.
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

/** What can only be a path or a URL. */
const PATH = /^(\.{0,2}[/\\]|~|[a-z]:|\.{1,2}$|[a-z][a-z0-9+.-]*:)/i

/** @throws {FourierFTError} what `loadAdapter` of `@fourierft/core` throws */
export async function loadWhereModelsAre(
  source: AdapterSource,
  options: LoadAdapterOptions = {},
): Promise<Adapter> {
  if (typeof source !== 'string' || PATH.test(source)) return loadAdapter(source, options)
  if (await platform.isDirectory(source)) return loadAdapter(source, options)
  const env = settings()
  const subfolder = checkSubfolder(options.subfolder)
  const revision = checkRevision(options.revision)
  const { revision: _, ...others } = options
  const ofRevision = [source, revision === 'main' ? '' : revision]
  const places = [
    ...(env.allowLocalModels && env.localModelPath ? [joined(env.localModelPath, source)] : []),
    ...(env.useFSCache && env.cacheDir ? [joined(env.cacheDir, ...ofRevision)] : []),
  ]
  // A page has no folders: what it calls a local path is a URL of its own server.
  for (const place of places) {
    if (env.useFS && (await platform.isFile(joined(place, subfolder, CONFIG_FILE))))
      return loadAdapter(absolute(place), others)
  }
  const [onServer] = places
  if (!env.useFS && env.allowLocalModels && onServer !== undefined && globalThis.location) {
    const adapter = await loadAdapter(new URL(onServer, globalThis.location.href), others).catch(
      unlessMissing,
    )
    if (adapter) return adapter
  }
  const cacheDir = env.useFSCache && isChosenFolder(env.cacheDir) ? { cacheDir: env.cacheDir } : {}
  if (!env.allowRemoteModels) {
    return loadAdapter(source, { ...cacheDir, ...options, offline: true }).catch((cause) => {
      throw isMissing(cause) ? notAllowed(source, places, cause) : cause
    })
  }
  const isOffline = options.offline === true
  if (isOffline || options.hubUrl !== undefined || !isMirror(env))
    return loadAdapter(source, { ...cacheDir, ...options })
  const adapter = await loadAdapter(mirrored(source, revision, env), others)
  // As transformers.js keeps models; without a place for it the adapter is loaded all the same.
  if (env.useFS && env.useFSCache && env.cacheDir)
    await savePretrained(adapter, absolute(joined(env.cacheDir, ...ofRevision, subfolder))).catch(
      () => undefined,
    )
  return adapter
}

/** Whether `env` names another host than the hub; the one of `HF_ENDPOINT` is a hub. */
function isMirror({ remoteHost, remotePathTemplate }: Settings): boolean {
  const slashed = (url: string | undefined) => url?.replace(/\/?$/, '/')
  const isHub = [DEFAULT_HOST, slashed(platform.hubEndpoint())].includes(slashed(remoteHost))
  return !isHub || remotePathTemplate !== DEFAULT_TEMPLATE
}

/** The folder of a repository on the host, which has nothing but files. */
function mirrored(model: string, revision: string, env: Settings): URL {
  const path = env.remotePathTemplate
    .replaceAll('{model}', () => model.split('/').map(encodeURIComponent).join('/'))
    .replaceAll('{revision}', () => encodeURIComponent(revision))
  const text = joined(env.remoteHost, path)
  if (URL.canParse(text) && !model.split('/').includes('..')) return new URL(text)
  throw new FourierFTError(
    'INVALID_OPTION',
    'env.remoteHost: expected the URL of a host that has models, such as https://huggingface.co/; or is the name of the adapter wrong?',
    { option: 'env.remoteHost', received: model },
  )
}

function joined(...parts: readonly string[]): string {
  const [first = '', ...others] = parts.filter((part) => part !== '')
  return others.reduce((path, part) => `${path.replace(/[\\/]+$/, '')}/${part.replace(/^\/+/, '')}`, first)
}

/** Something that core takes for a folder, not for a repository of the hub. */
function absolute(folder: string): string {
  return PATH.test(folder) ? folder : `./${folder}`
}

function isMissing(error: unknown): boolean {
  return FourierFTError.isInstance(error) && error.code === 'FILE_NOT_FOUND'
}

function unlessMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error
}

function notAllowed(source: string, places: readonly string[], cause: unknown): FourierFTError {
  const looked = [...places, "the hub's cache"].join(', ')
  return new FourierFTError(
    'FILE_NOT_FOUND',
    `${source}: no adapter in ${looked}, and env.allowRemoteModels of transformers.js forbids to download it`,
    { file: source, expected: places, cause },
  )
}

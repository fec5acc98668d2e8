/** The one door for adapters: from wherever the two files are. */

import { platform } from '#platform'
import type { Adapter, Shapes } from '../adapter/adapter.js'
import { piecewise } from '../adapter/steps.js'
import { FourierFTError, printable } from '../errors.js'
import type { AdapterBytes } from './adapter-bytes.js'
import { type AdapterFiles, CONFIG_FILE, checkSize, DEFAULT_MAX_BYTES, MODEL_FILE } from './adapter-files.js'
import { checkRevision, checkSubfolder } from './check-place.js'
import { readAdapterSteps } from './read-adapter.js'
import type { DownloadProgress } from './read-stream.js'
import { readBrowserFiles } from './sources/browser-files.js'
import { HUB_URL, readHub } from './sources/hub.js'
import { readUrl } from './sources/url.js'

const { fileSystem } = platform

/**
 * A directory (a path that exists, or begins with `./`, `../`, `/`, `~` or a drive letter), a repository of the hub (`user/name`),
 * the URL of a directory, the files of a file input or a drop, or the two files in memory.
 */
export type AdapterSource = string | URL | AdapterBytes | Iterable<File>

export interface LoadAdapterOptions {
  /** Shapes `[out, in]` of the base model's layers, for files that do not hold them (PEFT's). */
  readonly shapes?: Shapes
  /** Largest size of a file in bytes. Default `2³¹ − 1`. */
  readonly maxBytes?: number
  /**
   * Default: a download ends when nothing has arrived for a minute. With a signal only the signal ends it: `AbortSignal.timeout(…)`, say.
   * It also ends the reading of a large adapter. The promise is rejected with its reason.
   */
  readonly signal?: AbortSignal
  /** Is told how far a download is, piece by piece. */
  readonly onProgress?: (progress: DownloadProgress) => void
  /** Hub: branch, tag or commit. Default `main`. */
  readonly revision?: string
  /**
   * Folder below the directory, URL or repository that holds the two files. PEFT saves adapters under the names that they have in a
   * model into folders of these names, all but the one called `default`.
   */
  readonly subfolder?: string
  /** Hub or URL: access token, for what is private; it is sent to that host alone. None is taken from the environment. */
  readonly token?: string
  /** Hub: where it is, a mirror for example. Default: the environment's `HF_ENDPOINT`, or `https://huggingface.co`. */
  readonly hubUrl?: string
  /** Hub: where downloads are kept, Node only. Default: the cache of huggingface_hub (`HF_HUB_CACHE`, `HF_HOME`). */
  readonly cacheDir?: string
  /** Hub: use the cache alone, and ask nobody. Default: what the environment's `HF_HUB_OFFLINE` says. */
  readonly offline?: boolean
  /** Gets one line where the files hold tensors that are not used. Default: `console.warn`. */
  readonly onWarning?: (line: string) => void
}

/**
 * Nothing but the two files is read; no code in them is ever run.
 *
 * @throws {FourierFTError} `FILE_NOT_FOUND`, `FILE_TOO_LARGE` and `IO_ERROR` for the files, `INVALID_JSON`, `INVALID_CONFIG`,
 *   `INVALID_SAFETENSORS`, `UNSUPPORTED_PEFT_TYPE`, `UNSUPPORTED_FORMAT_VERSION`, `UNSUPPORTED_DTYPE`, `SHAPE_MISMATCH`, `NOT_FINITE`,
 *   `INVALID_PATTERN`, `INVALID_ENTRY_COUNT`, `ENTRY_OUT_OF_RANGE`, `DUPLICATE_ENTRY` and `ENTRIES_DIGEST_MISMATCH` for what they
 *   say, `INVALID_OPTION` for a source that is none, `UNSUPPORTED` for a directory where there is no file system
 */
export async function loadAdapter(source: AdapterSource, options: LoadAdapterOptions = {}): Promise<Adapter> {
  const { shapes, maxBytes = DEFAULT_MAX_BYTES, signal } = options
  signal?.throwIfAborted()
  const { names, ...bytes } = await readFiles(source, options, maxBytes)
  const adapter = await piecewise(readAdapterSteps(bytes, names), signal)
  const unused = unusedTensors(adapter)
  // Looked up when it is needed: programs replace the console's methods.
  if (unused !== undefined) (options.onWarning ?? ((line) => console.warn(line)))(`${names.model}: ${unused}`)
  return shapes ? adapter.withShapes(shapes) : adapter
}

/** What PEFT passes over too, and what it loads into the base model. */
function unusedTensors({ ignoredTensors, baseTensors }: Adapter): string | undefined {
  const some = (names: readonly string[]) =>
    `${names.slice(0, 3).join(', ')}${names.length > 3 ? ` and ${names.length - 3} more` : ''}`
  const notes = [
    ignoredTensors.length > 0 &&
      `ignored, as the configuration does not target them: ${some(ignoredTensors)}`,
    baseTensors.size > 0 && `taken for the base model's own weights: ${some([...baseTensors.keys()])}`,
  ].filter((note) => note !== false)
  return notes.length > 0 ? printable(notes.join('; ')) : undefined
}

async function readFiles(
  source: AdapterSource,
  options: LoadAdapterOptions,
  maxBytes: number,
): Promise<AdapterFiles> {
  const { signal, onProgress, token } = options
  const subfolder = checkSubfolder(options.subfolder)
  const isBoundGiven = options.maxBytes !== undefined
  const limits = { maxBytes, isBoundGiven, signal, onProgress, subfolder }
  if (source instanceof URL) {
    return source.protocol === 'file:' ? readPath(source, limits) : readUrl(source, { ...limits, token })
  }
  if (typeof source === 'string') {
    if (/^https?:\/\//i.test(source)) return readUrl(parseUrl(source), { ...limits, token })
    if (/^(\.{0,2}[/\\]|~|[a-z]:[/\\]|\.{1,2}$)/i.test(source)) return readPath(source, limits)
    if (await fileSystem?.isDirectory(source)) return readPath(source, limits)
    if (!/^[\w.-]+\/[\w.-]+$/.test(source) || /\/\.\.?$/.test(source)) throw notASource(source)
    const environment = fileSystem?.hubEnvironment()
    const { cacheDir, offline = environment?.offline ?? false } = options
    const revision = checkRevision(options.revision)
    const hubUrl = parseHubUrl(options.hubUrl ?? environment?.endpoint ?? HUB_URL)
    const cache = fileSystem?.openHubCache(source, cacheDir)
    return readHub(source, { ...options, ...limits, revision, offline, hubUrl }, cache)
  }
  if (typeof source === 'object' && source !== null) {
    if (subfolder !== '') throw noSubfolder(subfolder)
    if ('config' in source && 'model' in source) return inMemory(source, maxBytes)
    if (Symbol.iterator in source) return readBrowserFiles(source, maxBytes)
  }
  throw notASource(source)
}

async function readPath(
  path: string | URL,
  { maxBytes, subfolder }: { readonly maxBytes: number; readonly subfolder: string },
): Promise<AdapterFiles> {
  if (!fileSystem) {
    throw new FourierFTError(
      'UNSUPPORTED',
      `${path}: there are no directories here; give a URL, a repository of the hub or File objects`,
      { option: 'source', received: String(path) },
    )
  }
  return fileSystem.readDirectory(fileSystem.resolvePath(path, 'source'), maxBytes, subfolder)
}

function inMemory({ config, model }: AdapterBytes, maxBytes: number): AdapterFiles {
  for (const [file, bytes] of [[CONFIG_FILE, config] as const, [MODEL_FILE, model] as const]) {
    if (!(bytes instanceof Uint8Array)) {
      throw new FourierFTError('INVALID_OPTION', `${file}: expected a Uint8Array`, { file, option: 'source' })
    }
    checkSize(bytes.length, maxBytes, file)
  }
  // A copy: the adapter keeps the bytes, the caller may go on writing into theirs.
  return {
    config: new Uint8Array(config),
    model: new Uint8Array(model),
    names: { config: CONFIG_FILE, model: MODEL_FILE },
  }
}

function parseUrl(text: string): URL {
  try {
    return new URL(text)
  } catch {
    throw notASource(text)
  }
}

function parseHubUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url && /^https?:$/.test(url.protocol)) return url
  throw new FourierFTError(
    'INVALID_OPTION',
    `hubUrl: expected the URL of a hub, such as ${HUB_URL}; received something else (is HF_ENDPOINT set?)`,
    { option: 'hubUrl', expected: HUB_URL },
  )
}

function noSubfolder(subfolder: string): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    'subfolder: files and bytes in memory lie in no folder; give the two files of the adapter that is meant, without the option',
    { option: 'subfolder', received: subfolder },
  )
}

function notASource(given: unknown): FourierFTError {
  // A malformed URL may still have a password in it.
  const source = typeof given === 'string' ? given.replace(/\/\/[^/@]*@|[?#].*$/gs, '…') : given
  const received = typeof source === 'string' ? `'${source}', which is no directory either` : typeof source
  return new FourierFTError(
    'INVALID_OPTION',
    'source: expected a directory, a repository of the hub (user/name), a URL, File objects, or { config, model }; ' +
      `received ${received}`,
    { option: 'source', received: source },
  )
}

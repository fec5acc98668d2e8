/** Loads an adapter from any source of its two files. */

import { platform } from '#platform'
import type { Adapter } from '../adapter/adapter.js'
import type { Shapes } from '../adapter/adapter-parts.js'
import { runInPieces } from '../adapter/pausable-work.js'
import { FourierFTError, printable } from '../errors.js'
import type { AdapterBytes } from './adapter-bytes.js'
import { type AdapterFiles, CONFIG_FILE, checkSize, DEFAULT_MAX_BYTES, MODEL_FILE } from './adapter-files.js'
import { checkRevision, checkSubfolder } from './path-options.js'
import { readAdapterSteps } from './read-adapter.js'
import type { DownloadProgress } from './read-stream.js'
import { readBrowserFiles } from './sources/browser-files.js'
import { HUB_URL, readHub } from './sources/hub.js'
import { readUrl } from './sources/url.js'

const { fileSystem } = platform

/**
 * A directory (a path that exists, or begins with `./`, `../`, `/`, `~` or a drive letter), a repository of the hub (`user/name`), the URL
 * of a directory, the files of a file input or of drag and drop, or the two files in memory.
 */
export type AdapterSource = string | URL | AdapterBytes | Iterable<File>

export interface LoadAdapterOptions {
  /** Shapes `[out, in]` of the base model's layers, for files that do not contain them (PEFT's). */
  readonly shapes?: Shapes
  /** Largest size of a file in bytes. Default `2³¹ − 1`. */
  readonly maxBytes?: number
  /**
   * Aborts the download and the reading of a large adapter; the promise is rejected with the signal's reason. With a signal, a download has
   * no other time limit; `AbortSignal.timeout(…)` sets one. Default: a download ends when nothing arrives for a minute.
   */
  readonly signal?: AbortSignal
  /** Called for each piece of a download, with the progress. */
  readonly onProgress?: (progress: DownloadProgress) => void
  /** Hub: branch, tag or commit. Default `main`. */
  readonly revision?: string
  /**
   * Folder below the directory, URL or repository that holds the two files. PEFT saves each adapter of a model into a folder with the
   * adapter's name, except the adapter called `default`.
   */
  readonly subfolder?: string
  /** Hub or URL: access token for private files. It is sent only to that host. The environment is not searched for one. */
  readonly token?: string
  /** Hub: its URL, for example that of a mirror. Default: the environment's `HF_ENDPOINT`, or `https://huggingface.co`. */
  readonly hubUrl?: string
  /** Hub: folder of the cache, Node only. Default: the cache of huggingface_hub (`HF_HUB_CACHE`, `HF_HOME`). */
  readonly cacheDir?: string
  /** Hub: use only the cache and send no requests. Default: the environment's `HF_HUB_OFFLINE`. */
  readonly offline?: boolean
  /** Called with a one-line warning if the files contain tensors that are not used. Default: `console.warn`. */
  readonly onWarning?: (line: string) => void
}

/**
 * Loads an adapter. Reads only the two files, and never runs code from them.
 *
 * @throws {FourierFTError} `FILE_NOT_FOUND`, `FILE_TOO_LARGE` and `IO_ERROR` for the files, `INVALID_JSON`, `INVALID_CONFIG`,
 *   `INVALID_SAFETENSORS`, `UNSUPPORTED_PEFT_TYPE`, `UNSUPPORTED_FORMAT_VERSION`, `UNSUPPORTED_DTYPE`, `SHAPE_MISMATCH`, `NOT_FINITE`,
 *   `INVALID_PATTERN`, `INVALID_ENTRY_COUNT`, `ENTRY_OUT_OF_RANGE`, `DUPLICATE_ENTRY` and `ENTRIES_DIGEST_MISMATCH` for their
 *   content, `INVALID_OPTION` for an invalid source or option, `UNSUPPORTED` for a directory on a platform without a file system
 */
export async function loadAdapter(source: AdapterSource, options: LoadAdapterOptions = {}): Promise<Adapter> {
  const { shapes, maxBytes = DEFAULT_MAX_BYTES, signal } = options
  signal?.throwIfAborted()
  const { names, ...bytes } = await readFiles(source, options, maxBytes)
  const adapter = await runInPieces(readAdapterSteps(bytes, names), signal)
  const unused = unusedTensors(adapter)
  // `console.warn` is read at the time of the warning, because programs replace the console's methods.
  if (unused !== undefined) (options.onWarning ?? ((line) => console.warn(line)))(`${names.model}: ${unused}`)
  return shapes ? adapter.withShapes(shapes) : adapter
}

/** Describes the tensors that are not used. PEFT also ignores the first kind; it loads the second kind into the base model. */
function unusedTensors({ ignoredTensors, baseTensors }: Adapter): string | undefined {
  const firstOf = (names: readonly string[]) =>
    `${names.slice(0, 3).join(', ')}${names.length > 3 ? ` and ${names.length - 3} more` : ''}`
  const notes = [
    ignoredTensors.length > 0 &&
      `ignored, because the configuration does not target them: ${firstOf(ignoredTensors)}`,
    baseTensors.size > 0 && `treated as weights of the base model: ${firstOf([...baseTensors.keys()])}`,
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
  const isLimitExplicit = options.maxBytes !== undefined
  const limits = { maxBytes, isLimitExplicit, signal, onProgress, subfolder }
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
    throw new FourierFTError('UNSUPPORTED', `${path}: this platform has no directories`, {
      advice: 'give a URL, a repository of the hub or File objects',
      option: 'source',
      received: String(path),
    })
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
  // Copies, because the adapter keeps the bytes and the caller may write into the originals.
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
    `hubUrl: expected the URL of a hub, such as ${HUB_URL}; received something else`,
    { advice: 'check the option and HF_ENDPOINT in the environment', option: 'hubUrl', expected: HUB_URL },
  )
}

function noSubfolder(subfolder: string): FourierFTError {
  return new FourierFTError('INVALID_OPTION', 'subfolder: files and bytes in memory are not in a folder', {
    advice: 'leave the option out and give the two files of the adapter that you want',
    option: 'subfolder',
    received: subfolder,
  })
}

function notASource(value: unknown): FourierFTError {
  // A malformed URL may still contain a password.
  const source = typeof value === 'string' ? value.replace(/\/\/[^/@]*@|[?#].*$/gs, '…') : value
  const received = typeof source === 'string' ? `'${source}', and no directory has this name` : typeof source
  return new FourierFTError(
    'INVALID_OPTION',
    'source: expected a directory, a repository of the hub (user/name), a URL, File objects, or { config, model }; ' +
      `received ${received}`,
    { option: 'source', received: source },
  )
}

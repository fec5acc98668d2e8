/**
 * `folderResolver`: the adapters in the subfolders of a folder. Each lookup compares the times and sizes of the two files, which misses no change,
 * unlike a watcher, and needs nothing that could break on network file systems.
 */
import type { BigIntStats, Dirent } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join, resolve, sep } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Adapter,
  CONFIG_FILE,
  FourierFTError,
  loadAdapter,
  MODEL_FILE,
  unlessAborted,
} from '@fourierft/core'
import { adapterNotFound, isAdapterName } from '../adapter-name.js'
import { ServerError } from '../errors.js'
import type { FoundAdapter, ListedName, Resolver } from './resolver.js'

export interface FolderOptions {
  /** Largest size of a file in bytes. Default 64 MiB. */
  readonly maxBytes?: number | undefined
  /** Called with a line for each adapter whose file contains tensors that are not used, and when the folder cannot be listed. */
  readonly onWarning?: ((line: string) => void) | undefined
}

export const DEFAULT_MAX_BYTES = 64 * 2 ** 20

/** Time for which files must be unchanged before they are read, because a save writes two files, one after the other. */
const QUIET_MS = 50
/** Most waits for files that change all the time. */
const MAX_WAITS = 10
/** Most attempts to read files that change meanwhile. */
const ATTEMPTS = 4
/** Time for which a list is kept. */
const LIST_MS = 1000
/** Lookups of files at the same time. The system's thread pool is shared with the requests. */
const LIST_CONCURRENCY = 16

/**
 * Finds adapters in the direct subfolders of a folder. A subfolder may be a symbolic link, and so may its files, as in the volumes of Kubernetes:
 * whoever can write to the folder chooses what is read.
 */
export function folderResolver(
  folder: string,
  { maxBytes = DEFAULT_MAX_BYTES, onWarning = () => {} }: FolderOptions = {},
): Required<Resolver> {
  const root = resolve(folder)
  let listed: { readonly names: Promise<readonly ListedName[]>; readonly until: number } | undefined

  async function read(name: string, signal: AbortSignal): Promise<Adapter> {
    try {
      return await readQuiet(name, signal)
    } catch (error) {
      throw isDenied(error) ? deniedAdapter(name, error) : error
    }
  }

  async function readQuiet(name: string, signal: AbortSignal): Promise<Adapter> {
    const directory = join(root, name)
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      signal.throwIfAborted()
      const folderBefore = await statOf(directory)
      const before = await quietFilesIn(directory)
      if (before === undefined) throw adapterNotFound(name)
      if (!before.isQuiet) break
      // A file that is being written can be unreadable, and some file systems show its new time only later. So an error counts only if it lasts.
      const outcome = await load(directory, signal).then(
        (adapter) => ({ adapter }),
        (error: unknown) => ({ error }),
      )
      if ('error' in outcome) await sleep(QUIET_MS)
      const after = await filesIn(directory)
      const folderAfter = await statOf(directory)
      if (after?.version !== before.version || !isSame(folderBefore, folderAfter)) continue
      if ('error' in outcome) throw outcome.error
      return outcome.adapter
    }
    throw new ServerError('invalid_adapter', `adapter '${name}': its files change while they are read`, {
      param: 'model',
    })
  }

  async function load(directory: string, signal: AbortSignal): Promise<Adapter> {
    const warn = (line: string) => onWarning(inside(line, root))
    try {
      return await loadAdapter(directory, { maxBytes, signal, onWarning: warn })
    } catch (error) {
      throw FourierFTError.isInstance(error) ? withoutPath(error, directory) : error
    }
  }

  async function find(name: string, signal: AbortSignal): Promise<FoundAdapter | undefined> {
    signal.throwIfAborted()
    if (!isAdapterName(name)) return undefined
    // Not shared with other requests: this one may have begun after a change that an earlier lookup did not see.
    const files = await unlessAborted(quietFilesIn(join(root, name)), signal).catch((error: unknown) => {
      throw isDenied(error) ? deniedAdapter(name, error) : error
    })
    return files && { version: files.version, read: (signal) => read(name, signal) }
  }

  return {
    find,
    list() {
      if (listed === undefined || Date.now() >= listed.until) {
        const names = namesIn(root).catch((error: NodeJS.ErrnoException) => {
          onWarning(`the folder of adapters cannot be listed (${error.code}): ${root}`)
          return []
        })
        listed = { names, until: Date.now() + LIST_MS }
      }
      return listed.names
    },
  }
}

/** What is known about the two files of an adapter without reading them. */
interface Files {
  readonly version: string
  /** Time of the newest change, in milliseconds since 1970. */
  readonly changed: number
  /** Time of the newest content. */
  readonly modified: number
}

/**
 * Waits until the files have been unchanged for a while. Until then their times may stay the same when they are written once more, because file systems
 * count time in steps of some milliseconds.
 */
async function quietFilesIn(directory: string): Promise<(Files & { isQuiet: boolean }) | undefined> {
  let files = await filesIn(directory)
  for (let waits = 0; files && waits < MAX_WAITS; waits++) {
    const age = Date.now() - files.changed
    // Times in the future come from another machine's clock, and say nothing.
    if (Math.abs(age) >= QUIET_MS) return { ...files, isQuiet: true }
    await sleep(QUIET_MS - Math.max(age, 0))
    const later = await filesIn(directory)
    if (later?.version === files.version) return { ...files, isQuiet: true }
    files = later
  }
  return files && { ...files, isQuiet: false }
}

/** Returns undefined if one of the files is missing. */
async function filesIn(directory: string): Promise<Files | undefined> {
  const [config, model] = await Promise.all([
    statOf(join(directory, CONFIG_FILE)),
    statOf(join(directory, MODEL_FILE)),
  ])
  if (!config || !model) return undefined
  const newest = (times: readonly bigint[]) => times.reduce((a, b) => Math.max(a, Number(b / 1_000_000n)), 0)
  return {
    version: `${versionOf(config)} ${versionOf(model)}`,
    changed: newest([config.mtimeNs, config.ctimeNs, model.mtimeNs, model.ctimeNs]),
    modified: newest([config.mtimeNs, model.mtimeNs]),
  }
}

/** The folder's own times show that it was renamed, or that a save in it has begun or ended, even if the files are the old ones again. */
function isSame(before: BigIntStats | undefined, after: BigIntStats | undefined): boolean {
  return before !== undefined && after !== undefined && versionOf(before) === versionOf(after)
}

/** The time of the change (`ctime`) also shows contents whose older time of modification was kept, as `rsync` and `cp -p` do. */
function versionOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${dev}.${ino}.${size}.${mtimeNs}.${ctimeNs}`
}

async function statOf(path: string): Promise<BigIntStats | undefined> {
  return stat(path, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
    // ELOOP: a symbolic link that leads to itself.
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR' || error.code === 'ELOOP') return undefined
    throw error
  })
}

/** The process may not read a folder or a file. */
function isDenied(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'EACCES' || code === 'EPERM'
}

function deniedAdapter(name: string, cause: unknown): ServerError {
  return new ServerError('invalid_adapter', `adapter '${name}': the server may not read its files`, {
    param: 'model',
    cause,
  })
}

async function namesIn(root: string): Promise<readonly ListedName[]> {
  const candidates = (await readdir(root, { withFileTypes: true })).filter(isCandidate).values()
  const names: ListedName[] = []
  const work = async () => {
    for (const { name } of candidates) {
      const files = await filesIn(join(root, name)).catch(() => undefined)
      if (files) names.push({ name, modified: files.modified })
    }
  }
  await Promise.all(Array.from({ length: LIST_CONCURRENCY }, work))
  return names.sort((a, b) => (a.name < b.name ? -1 : 1))
}

function isCandidate(entry: Dirent): boolean {
  return isAdapterName(entry.name) && (entry.isDirectory() || entry.isSymbolicLink())
}

/** Strangers read the messages, so they do not show where the folder is. */
function withoutPath({ code, problem, advice, details }: FourierFTError, directory: string): FourierFTError {
  return new FourierFTError(code, inside(problem, directory), {
    ...details,
    ...(advice !== undefined && { advice: inside(advice, directory) }),
  })
}

function inside(text: string, directory: string): string {
  return text.replaceAll(`${directory}${sep}`, '').replaceAll(directory, 'its folder')
}

/**
 * Reads and writes the cache of Python's huggingface_hub. Its layout: `blobs/<etag>` holds content, `snapshots/<commit>/<path>` links to a
 * blob, and `refs/<revision>` holds a commit. Node only.
 *
 * @see https://huggingface.co/docs/huggingface_hub/guides/manage-cache
 */
import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, readFile, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join, relative, sep } from 'node:path'
import { FourierFTError } from '../../errors.js'
import { checkSize, ioError } from '../adapter-files.js'
import { COMMIT, type HubCache } from './hub.js'

/** Opens the cache of a repository. @param cacheDir default: from the environment (`HF_HUB_CACHE`, `HF_HOME`), as in huggingface_hub */
export function openHubCache(repository: string, cacheDir: string = defaultCacheDir()): HubCache {
  const root = join(cacheDir, ['models', ...repository.split('/')].join('--'))
  return {
    async commit(revision) {
      const file = safeJoin(join(root, 'refs'), revision)
      const stats = await orIoError(stat(file).catch(undefinedIfMissing), file)
      if (!stats) return undefined
      // The text becomes part of a path, so it must be a commit.
      const text = stats.isFile() && stats.size < 100 ? await orIoError(readFile(file, 'utf8'), file) : ''
      if (COMMIT.test(text.trim())) return text.trim()
      throw ioError(file, 'expected a commit, 40 hexadecimal digits', { advice: 'delete the file' })
    },
    async setCommit(revision, commit) {
      await orIoError(
        replaceFile(safeJoin(join(root, 'refs'), revision), new TextEncoder().encode(commit)),
        root,
      )
    },
    async read(commit, path, maxBytes) {
      const file = safeJoin(join(root, 'snapshots', commit), path)
      const stats = await orIoError(stat(file).catch(undefinedIfMissing), file)
      if (!stats?.isFile()) return undefined
      checkSize(stats.size, maxBytes, file)
      await checkInside(file, root)
      const bytes = await orIoError(readFile(file), file)
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
    },
    async write(commit, path, etag, bytes) {
      const blob = safeJoin(join(root, 'blobs'), etag)
      const pointer = safeJoin(join(root, 'snapshots', commit), path)
      await orIoError(
        replaceFile(blob, bytes).then(() => linkTo(blob, pointer)),
        pointer,
      )
    },
  }
}

function defaultCacheDir(): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = process.env
  const home = HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface')
  return HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(home, 'hub')
}

/** Snapshots are links. A link must not lead out of the repository's folder in the cache. */
async function checkInside(file: string, folder: string): Promise<void> {
  const [target, root] = await orIoError(Promise.all([realpath(file), realpath(folder)]), file)
  if (!isOutside(relative(root, target))) return
  throw ioError(file, `it is a link that leads out of the cache (${folder})`, { advice: 'delete it' })
}

function isOutside(path: string): boolean {
  return path === '' || path === '..' || path.startsWith(`..${sep}`) || isAbsolute(path)
}

/** Joins paths. Revisions and etags are untrusted and must not lead out of the cache. */
function safeJoin(root: string, path: string): string {
  const joined = join(root, path)
  if (isOutside(relative(root, joined)) || path.includes('\0')) {
    throw new FourierFTError('INVALID_OPTION', `'${path}' cannot be a revision or path of a repository`, {
      option: 'revision',
      received: path,
    })
  }
  return joined
}

/** Replaces a file atomically: a reader sees the old file or the new one. Each process uses its own temporary name. */
async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.${randomBytes(6).toString('hex')}.incomplete`
  try {
    await writeFile(temporary, bytes, { flag: 'wx' })
    await rename(temporary, path)
  } finally {
    await rm(temporary, { force: true })
  }
}

async function linkTo(blob: string, pointer: string): Promise<void> {
  await mkdir(dirname(pointer), { recursive: true })
  await rm(pointer, { force: true })
  try {
    await symlink(relative(dirname(pointer), blob), pointer)
  } catch {
    // On Windows few users may create links; huggingface_hub also copies.
    await copyFile(blob, pointer)
  }
}

function undefinedIfMissing(error: unknown): undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error
}

async function orIoError<T>(result: Promise<T>, file: string): Promise<T> {
  return result.catch((cause) => {
    throw FourierFTError.isInstance(cause) ? cause : ioError(file, 'the cache could not be used', { cause })
  })
}

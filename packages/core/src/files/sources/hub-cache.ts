/**
 * The cache of Python's huggingface_hub, read and written in its layout: content under `blobs/<etag>`, `snapshots/<commit>/<path>`
 * pointing there, `refs/<revision>` holding a commit. Node only.
 *
 * @see https://huggingface.co/docs/huggingface_hub/guides/manage-cache
 */
import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { FourierFTError } from '../../errors.js'
import { checkSize, ioError } from '../adapter-files.js'
import type { HubCache } from './hub.js'

/** @param cacheDir default: what the environment says (`HF_HUB_CACHE`, `HF_HOME`), as for huggingface_hub */
export function openHubCache(repository: string, cacheDir: string = defaultCacheDir()): HubCache {
  const root = join(cacheDir, ['models', ...repository.split('/')].join('--'))
  return {
    async commit(revision) {
      const text = await orIoError(
        readFile(safeJoin(join(root, 'refs'), revision), 'utf8').catch(missing),
        root,
      )
      return text?.trim()
    },
    async setCommit(revision, commit) {
      await orIoError(
        replaceFile(safeJoin(join(root, 'refs'), revision), new TextEncoder().encode(commit)),
        root,
      )
    },
    async read(commit, path, maxBytes) {
      const file = safeJoin(join(root, 'snapshots', commit), path)
      const stats = await orIoError(stat(file).catch(missing), file)
      if (!stats?.isFile()) return undefined
      checkSize(stats.size, maxBytes, file)
      const bytes = await orIoError(readFile(file), file)
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
    },
    async write(commit, path, etag, bytes) {
      const blob = safeJoin(join(root, 'blobs'), etag)
      const pointer = safeJoin(join(root, 'snapshots', commit), path)
      await orIoError(
        replaceFile(blob, bytes).then(() => point(pointer, blob)),
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

/** Revisions and etags come from outside: none leads out of the cache. */
function safeJoin(root: string, path: string): string {
  const joined = join(root, path)
  const inside = relative(root, joined)
  if (inside === '' || inside.startsWith('..') || path.includes('\0')) {
    throw new FourierFTError('INVALID_OPTION', `'${path}' cannot be a revision or path of a repository`, {
      option: 'revision',
      received: path,
    })
  }
  return joined
}

/** A reader meets the old file or the new one, never a part; a temporary name of its own for each process that downloads. */
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

async function point(pointer: string, blob: string): Promise<void> {
  await mkdir(dirname(pointer), { recursive: true })
  await rm(pointer, { force: true })
  try {
    await symlink(relative(dirname(pointer), blob), pointer)
  } catch {
    // Windows lets few users make links; huggingface_hub copies there too.
    await copyFile(blob, pointer)
  }
}

function missing(error: unknown): undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error
}

async function orIoError<T>(result: Promise<T>, file: string): Promise<T> {
  return result.catch((cause) => {
    throw cause instanceof FourierFTError ? cause : ioError(file, 'the cache could not be used', cause)
  })
}

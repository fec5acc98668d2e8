/**
 * An adapter from a repository of the Hugging Face hub. The requests are those of `@huggingface/hub`, which is loaded when the first
 * repository is; where there is a disk, files go through the cache that Python's huggingface_hub shares.
 *
 * The library's own cached download is not used: it files each file under the last commit that touched it, so that the two files of
 * one adapter part, leaves the name of the revision out, and writes to the console.
 */
import { sha1 } from '@noble/hashes/legacy.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import { FourierFTError } from '../../errors.js'
import {
  type AdapterFiles,
  CONFIG_FILE,
  checkSize,
  ioError,
  MODEL_FILE,
  namedAdvice,
  notFound,
} from '../adapter-files.js'
import { type DownloadProgress, readStream } from '../read-stream.js'

export interface HubOptions {
  /** Branch, tag or commit. */
  readonly revision: string
  /** Folder of the repository that holds the two files; empty: none. */
  readonly subfolder: string
  readonly token?: string | undefined
  readonly hubUrl?: string | undefined
  readonly offline: boolean
  readonly maxBytes: number
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
}

/** The files of one repository on disk. Commits are what revisions stood for when they were last seen. */
export interface HubCache {
  commit(revision: string): Promise<string | undefined>
  setCommit(revision: string, commit: string): Promise<void>
  read(commit: string, path: string, maxBytes: number): Promise<Uint8Array | undefined>
  /** @param etag the hub's name for the content */
  write(commit: string, path: string, etag: string, bytes: Uint8Array): Promise<void>
}

type Hub = typeof import('@huggingface/hub')
type Paths = readonly [config: string, model: string]

const COMMIT = /^[0-9a-f]{40}$/

/** @throws {FourierFTError} `FILE_NOT_FOUND`, `FILE_TOO_LARGE`, `INVALID_OPTION`, `IO_ERROR`; an abort throws the signal's reason */
export async function readHub(
  repository: string,
  options: HubOptions,
  cache?: HubCache,
): Promise<AdapterFiles> {
  const { revision, subfolder, token, offline, signal } = options
  if (token !== undefined && !token.startsWith('hf_')) {
    throw new FourierFTError(
      'INVALID_OPTION',
      "token: expected an access token of the hub, which begins with 'hf_'",
      {
        option: 'token',
        expected: 'hf_…',
      },
    )
  }
  const folder = subfolder === '' ? '' : `${subfolder}/`
  const paths: Paths = [folder + CONFIG_FILE, folder + MODEL_FILE]
  const label = `${repository}@${revision}`
  const names = { config: `${label}/${paths[0]}`, model: `${label}/${paths[1]}` }
  try {
    const pinned = COMMIT.test(revision) ? revision : undefined
    if (pinned !== undefined || offline) {
      const files = await readCached(pinned ?? (await cache?.commit(revision)), paths, options, cache)
      if (files) return { config: files[0], model: files[1], names }
    }
    if (offline) {
      throw notFound(label, 'it is not in the cache, and the option offline forbids to download it')
    }
    const hub = await import('@huggingface/hub')
    const commit = pinned ?? (await currentCommit(hub, repository, options, cache))
    const files =
      (await readCached(commit, paths, options, cache)) ??
      (await downloadAll(hub, repository, commit, paths, options, cache))
    if (!pinned) await cache?.setCommit(revision, commit)
    return { config: files[0], model: files[1], names }
  } catch (error) {
    if (signal?.aborted) throw signal.reason
    throw typed(error, label)
  }
}

/** Both files or none. */
async function readCached(
  commit: string | undefined,
  paths: Paths,
  { maxBytes }: HubOptions,
  cache: HubCache | undefined,
): Promise<[Uint8Array, Uint8Array] | undefined> {
  if (!cache || commit === undefined) return undefined
  const [config, model] = await Promise.all(paths.map((path) => cache.read(commit, path, maxBytes)))
  return config && model && [config, model]
}

/** Where the hub cannot be reached, the commit that the cache has for the revision, as huggingface_hub does. */
async function currentCommit(
  hub: Hub,
  repository: string,
  options: HubOptions,
  cache: HubCache | undefined,
): Promise<string> {
  try {
    const { sha } = await hub.modelInfo({
      name: repository,
      revision: options.revision,
      additionalFields: ['sha'],
      ...request(options),
    })
    if (!COMMIT.test(String(sha))) throw new Error(`expected a commit, received ${sha}`)
    return sha
  } catch (error) {
    const known = error instanceof hub.HubApiError ? undefined : await cache?.commit(options.revision)
    if (known === undefined || options.signal?.aborted) throw error
    return known
  }
}

async function downloadAll(
  hub: Hub,
  repository: string,
  commit: string,
  paths: Paths,
  options: HubOptions,
  cache: HubCache | undefined,
): Promise<[Uint8Array, Uint8Array]> {
  const { maxBytes, onProgress } = options
  const infos = await hub.pathsInfo({
    repo: repository,
    paths: [...paths],
    revision: commit,
    ...request(options),
  })
  const download = async (path: string) => {
    const file = `${repository}@${options.revision}/${path}`
    const info = infos.find((candidate) => candidate.path === path && candidate.type === 'file')
    if (!info) {
      throw notFound(
        file,
        `expected ${CONFIG_FILE} and ${MODEL_FILE} in the repository${namedAdvice(options.subfolder)}`,
      )
    }
    checkSize(info.size, maxBytes, file)
    const blob = await hub.downloadFile({ repo: repository, path, revision: commit, ...request(options) })
    if (!blob) throw notFound(file, 'the hub lists it and does not have it')
    const bytes = await readStream(blob.stream(), { file, maxBytes, expected: info.size, onProgress })
    const [etag, found] = info.lfs ? [info.lfs.oid, bytesToHex(sha256(bytes))] : [info.oid, gitBlobId(bytes)]
    if (found !== etag) throw ioError(file, `its digest is ${found}, the hub promises ${etag}`)
    return { path, etag: found, bytes }
  }
  const [config, model] = [await download(paths[0]), await download(paths[1])]
  for (const { path, etag, bytes } of [config, model]) await cache?.write(commit, path, etag, bytes)
  return [config.bytes, model.bytes]
}

/** The hub's name for the content of a file that is not kept as a large one. */
function gitBlobId(bytes: Uint8Array): string {
  const header = utf8ToBytes(`blob ${bytes.length}\0`)
  return bytesToHex(sha1.create().update(header).update(bytes).digest())
}

function request({ token, hubUrl, signal }: HubOptions): {
  accessToken?: string
  hubUrl?: string
  fetch?: typeof fetch
} {
  return {
    ...(token !== undefined && { accessToken: token }),
    ...(hubUrl !== undefined && { hubUrl: hubUrl.replace(/\/$/, '') }),
    ...(signal && { fetch: (input, init) => fetch(input, { ...init, signal }) }),
  }
}

/** Errors of the library have a status, errors of the network a cause. */
function typed(error: unknown, label: string): unknown {
  if (error instanceof FourierFTError) return error
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined
  if (status === 404)
    return notFound(label, 'no such repository or revision, or it is private and needs a token', error)
  if (status === 401 || status === 403) {
    return ioError(
      label,
      `it does not exist, or needs a token that may read it (the hub answered ${status})`,
      error,
    )
  }
  return ioError(
    label,
    status === undefined ? 'the request to the hub failed' : `the hub answered ${status}`,
    error,
  )
}

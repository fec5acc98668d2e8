/**
 * Reads an adapter from a repository of the Hugging Face hub. There are three kinds of requests: for the commit of a revision, for the sizes
 * and digests of the files, and for the files. On Node, files go through the cache of Python's huggingface_hub.
 *
 * `@huggingface/hub` is not used, because it does not limit the size of answers and sends the token to any host that a redirect leads to.
 *
 * @see https://huggingface.co/docs/hub/api
 */
import { sha1 } from '@noble/hashes/legacy.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import * as v from 'valibot'
import { parseJson } from '../../adapter/json.js'
import { FourierFTError } from '../../errors.js'
import {
  type AdapterFiles,
  CONFIG_FILE,
  checkSize,
  ioError,
  MAX_CONFIG_BYTES,
  MODEL_FILE,
  notFound,
  subfolderHint,
} from '../adapter-files.js'
import type { DownloadProgress } from '../read-stream.js'
import { request } from './request.js'

export const HUB_URL = 'https://huggingface.co'

export interface HubOptions {
  /** Branch, tag or commit. */
  readonly revision: string
  /** Folder of the repository that holds the two files; empty for the repository itself. */
  readonly subfolder: string
  readonly token?: string | undefined
  readonly hubUrl: URL
  readonly offline: boolean
  readonly maxBytes: number
  readonly isLimitExplicit: boolean
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
}

/** The files of one repository on disk, and the last known commit of each revision. */
export interface HubCache {
  commit(revision: string): Promise<string | undefined>
  setCommit(revision: string, commit: string): Promise<void>
  read(commit: string, path: string, maxBytes: number): Promise<Uint8Array | undefined>
  /** @param etag the hub's name for the content */
  write(commit: string, path: string, etag: string, bytes: Uint8Array): Promise<void>
}

type Paths = readonly [config: string, model: string]

export const COMMIT = /^[0-9a-f]{40}$/

/** Size limit of the hub's answers about a repository. */
const MAX_ANSWER_BYTES = 4 * 2 ** 20
const Revision = v.object({ sha: v.pipe(v.string(), v.regex(COMMIT)) })
const Size = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const FileInfos = v.array(
  v.object({
    type: v.string(),
    path: v.string(),
    size: Size,
    oid: v.pipe(v.string(), v.regex(COMMIT)),
    lfs: v.optional(v.object({ oid: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)) })),
  }),
)

/**
 * Reads both files from the cache, or downloads them.
 *
 * @throws {FourierFTError} `FILE_NOT_FOUND`, `FILE_TOO_LARGE`, `INVALID_OPTION`, `IO_ERROR`; an abort throws the signal's reason
 */
export async function readHub(
  repository: string,
  options: HubOptions,
  cache?: HubCache,
): Promise<AdapterFiles> {
  const { revision, subfolder, token, offline } = options
  if (token !== undefined && !token.startsWith('hf_')) {
    throw new FourierFTError(
      'INVALID_OPTION',
      "token: expected an access token of the hub, which begins with 'hf_'",
      { option: 'token', expected: 'hf_…' },
    )
  }
  const folder = subfolder === '' ? '' : `${subfolder}/`
  const paths: Paths = [folder + CONFIG_FILE, folder + MODEL_FILE]
  const label = `${repository}@${revision}`
  const names = { config: `${label}/${paths[0]}`, model: `${label}/${paths[1]}` }
  const pinned = COMMIT.test(revision) ? revision : undefined
  if (pinned !== undefined || offline) {
    const files = await readCached(pinned ?? (await cache?.commit(revision)), paths, options, cache)
    if (files) return { config: files[0], model: files[1], names }
  }
  if (offline)
    throw new FourierFTError(
      'FILE_NOT_FOUND',
      `${label} is not in the cache, and offline forbids a download`,
      {
        advice: 'load it once online, or leave out the option offline and HF_HUB_OFFLINE',
        file: label,
        option: 'offline',
      },
    )
  const repo = new Repository(repository, options)
  const commit = pinned ?? (await currentCommit(repo, options, cache))
  const files =
    (await readCached(commit, paths, options, cache)) ??
    (await downloadAll(repo, commit, paths, options, cache))
  if (!pinned) await cache?.setCommit(revision, commit)
  return { config: files[0], model: files[1], names }
}

/** Returns both files from the cache, or undefined if either is missing. */
async function readCached(
  commit: string | undefined,
  paths: Paths,
  { maxBytes }: HubOptions,
  cache: HubCache | undefined,
): Promise<[Uint8Array, Uint8Array] | undefined> {
  if (!cache || commit === undefined) return undefined
  const [config, model] = await Promise.all([
    cache.read(commit, paths[0], Math.min(maxBytes, MAX_CONFIG_BYTES)),
    cache.read(commit, paths[1], maxBytes),
  ])
  return config && model && [config, model]
}

/** Returns the commit of the revision: from the hub, or from the cache if the hub cannot be reached, as in huggingface_hub. */
async function currentCommit(
  repo: Repository,
  options: HubOptions,
  cache: HubCache | undefined,
): Promise<string> {
  const { revision, signal } = options
  const answer = await repo.ask(`revision/${encodeURIComponent(revision)}?expand=sha`).catch((error) => error)
  if (answer instanceof Uint8Array) return repo.parse(Revision, answer, 'the commit of the revision').sha
  const isUnreachable =
    FourierFTError.isInstance(answer) && answer.code === 'IO_ERROR' && answer.details.received === undefined
  const known = isUnreachable && !signal?.aborted ? await cache?.commit(revision) : undefined
  if (known === undefined) throw answer
  return known
}

async function downloadAll(
  repo: Repository,
  commit: string,
  paths: Paths,
  options: HubOptions,
  cache: HubCache | undefined,
): Promise<[Uint8Array, Uint8Array]> {
  const listing = await repo.ask(`paths-info/${commit}`, { paths })
  const infos = repo.parse(FileInfos, listing, 'a list of files')
  const download = async (path: string, limit: number) => {
    const file = `${repo.label}/${path}`
    const info = infos.find((candidate) => candidate.path === path && candidate.type === 'file')
    if (!info) {
      throw notFound(
        file,
        `expected ${CONFIG_FILE} and ${MODEL_FILE} in the repository`,
        subfolderHint(options.subfolder),
      )
    }
    const maxBytes = Math.min(options.maxBytes, limit)
    checkSize(info.size, maxBytes, file)
    const bytes = await repo.download(commit, path, { file, maxBytes, expected: info.size })
    const [etag, digest] = info.lfs ? [info.lfs.oid, bytesToHex(sha256(bytes))] : [info.oid, gitBlobId(bytes)]
    if (digest !== etag) throw ioError(file, `its digest is ${digest}, but the hub declares ${etag}`)
    return { path, etag: digest, bytes }
  }
  const config = await download(paths[0], MAX_CONFIG_BYTES)
  const model = await download(paths[1], Number.POSITIVE_INFINITY)
  for (const { path, etag, bytes } of [config, model]) await cache?.write(commit, path, etag, bytes)
  return [config.bytes, model.bytes]
}

/** Sends requests about one repository. */
class Repository {
  readonly label: string
  readonly #name: string
  readonly #options: HubOptions

  constructor(name: string, options: HubOptions) {
    this.#name = name
    this.#options = options
    this.label = `${name}@${options.revision}`
  }

  /** Returns the hub's answer to a question. A question with a body is sent as a POST. */
  ask(question: string, json?: object): Promise<Uint8Array> {
    return this.#request(`api/models/${this.#name}/${question}`, {
      file: this.label,
      maxBytes: MAX_ANSWER_BYTES,
      ...(json && { json, headers: { accept: 'application/json', 'content-type': 'application/json' } }),
    })
  }

  parse<S extends v.GenericSchema>(schema: S, answer: Uint8Array, what: string): v.InferOutput<S> {
    const result = v.safeParse(schema, parseJson(answer, `${this.label}: the hub's answer`), {
      abortEarly: true,
    })
    if (result.success) return result.output
    throw ioError(this.label, `expected ${what} from the hub; received something else`)
  }

  download(
    commit: string,
    path: string,
    { file, ...bounds }: { file: string; maxBytes: number; expected: number },
  ): Promise<Uint8Array> {
    const { onProgress } = this.#options
    const encoded = path.split('/').map(encodeURIComponent).join('/')
    return this.#request(`${this.#name}/resolve/${commit}/${encoded}`, { file, ...bounds, onProgress })
  }

  async #request(
    path: string,
    { headers, ...options }: Omit<Parameters<typeof request>[1], 'signal' | 'isLimitExplicit'>,
  ): Promise<Uint8Array> {
    const { hubUrl, token, signal, isLimitExplicit } = this.#options
    const base = hubUrl.href.replace(/\/?$/, '/')
    const authorized = { ...headers, ...(token !== undefined && { authorization: `Bearer ${token}` }) }
    const { status, bytes } = await request(new URL(base + path), {
      ...options,
      headers: authorized,
      signal,
      isLimitExplicit,
    })
    if (bytes) return bytes
    throw this.#httpError(status, options.file)
  }

  #httpError(status: number, file: string): FourierFTError {
    if (status === 404)
      return notFound(
        file,
        'the hub answered 404',
        'check the names of the repository and the revision; a private repository needs a token',
      )
    const isForbidden = status === 401 || status === 403
    const problem = isForbidden
      ? `it does not exist, or it needs a token with read access (the hub answered ${status})`
      : `the hub answered ${status}`
    return new FourierFTError('IO_ERROR', `${file}: ${problem}`, { file, received: status })
  }
}

/** Returns the hub's name for the content of a file that is not in its storage for large files. */
function gitBlobId(bytes: Uint8Array): string {
  const header = utf8ToBytes(`blob ${bytes.length}\0`)
  return bytesToHex(sha1.create().update(header).update(bytes).digest())
}

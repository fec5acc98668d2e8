/**
 * `hubResolver`: adapters in repositories of the Hugging Face hub, of owners in a list. The version of a repository is the commit of its revision, which
 * the hub tells in one small request; the files are then read from this commit, so they always belong together.
 */
import { loadAdapter, unlessAborted } from '@fourierft/core'
import * as v from 'valibot'
import { isHubName } from '../adapter-name.js'
import { ServerError } from '../errors.js'
import { isFolder } from '../is-folder.js'
import { DEFAULT_MAX_BYTES } from './folder.js'
import type { FoundAdapter, Resolver } from './resolver.js'

export interface HubResolverOptions {
  /** Owners whose repositories may be loaded: users and organisations. */
  readonly owners: readonly string[]
  /** Branch, tag or commit. A commit is never asked for again. Default `main`. */
  readonly revision?: string | undefined
  /** Seconds after which the hub is asked again for the commit of a branch. Default 300. */
  readonly recheckSeconds?: number | undefined
  /** Access token for private repositories. */
  readonly token?: string | undefined
  /** Default: the environment's `HF_ENDPOINT`, or `https://huggingface.co`. */
  readonly hubUrl?: string | undefined
  /** Default: the cache of huggingface_hub. */
  readonly cacheDir?: string | undefined
  /** Uses only the cache. Default: the environment's `HF_HUB_OFFLINE`. */
  readonly offline?: boolean | undefined
  /** Largest size of a file in bytes. Default 64 MiB. */
  readonly maxBytes?: number | undefined
  /** Called with a line for each adapter whose file contains tensors that are not used. */
  readonly onWarning?: ((line: string) => void) | undefined
}

const COMMIT = /^[0-9a-f]{40}$/
/** The version if the hub is not asked, or has never answered: what the cache of huggingface_hub contains. */
const CACHED = 'cached'
/** Most repositories whose commits are remembered. */
const MAX_KNOWN = 10_000
/** Seconds for which a repository that does not exist is not asked for again. */
const MISSING_SECONDS = 10
/** Questions to the hub at a time, and further ones that wait. The names that are asked for come from clients. */
const MAX_QUESTIONS = 16
const MAX_WAITING = 256
/** Time limit of the question for a commit, in milliseconds. */
const QUESTION_MS = 10_000
/** Size limit of the hub's answer. */
const MAX_ANSWER_BYTES = 4 * 2 ** 20
const Revision = v.object({ sha: v.pipe(v.string(), v.regex(COMMIT)) })

interface Known {
  readonly version: string
  readonly until: number
}

/** Finds adapters in repositories of the hub. If the hub cannot be reached, the last known version stays, or that of the cache. */
export function hubResolver({
  owners,
  revision = 'main',
  recheckSeconds = 300,
  token,
  hubUrl = process.env.HF_ENDPOINT || 'https://huggingface.co',
  cacheDir,
  offline = /^(1|on|yes|true)$/i.test(process.env.HF_HUB_OFFLINE ?? ''),
  maxBytes = DEFAULT_MAX_BYTES,
  onWarning = () => {},
}: HubResolverOptions): Resolver {
  const allowed = new Set(owners)
  const known = new Map<string, Known>()
  /** Until when the cache is used for repositories of which the hub has told nothing, because it cannot be reached. */
  const unconfirmed = new Map<string, number>()
  /** Until when repositories do not exist. Names that clients make up are many, so they have a place of their own. */
  const missing = new Map<string, number>()
  const slots = new QuestionSlots()
  const questions = new Map<string, Promise<string | undefined>>()

  async function askVersion(name: string): Promise<string | undefined> {
    const last = known.get(name)
    try {
      // Names that exist go first, so that made-up ones cannot delay them for long.
      await slots.take(last !== undefined)
      const version = await commitOf(name, { revision, token, hubUrl })
        .catch((error) => {
          if (!(error instanceof Unreachable)) throw error
          return last?.version ?? CACHED
        })
        .finally(() => slots.give())
      const seconds = version === undefined || version === CACHED ? MISSING_SECONDS : recheckSeconds
      const until = Date.now() + 1000 * Math.min(seconds, recheckSeconds)
      known.delete(name)
      missing.delete(name)
      if (version === undefined) remember(missing, name, until)
      else if (version === CACHED) remember(unconfirmed, name, until)
      else remember(known, name, { version, until })
      return version
    } finally {
      questions.delete(name)
    }
  }

  async function versionOf(name: string, signal: AbortSignal): Promise<string | undefined> {
    if (COMMIT.test(revision)) return revision
    if (offline) return CACHED
    const last = known.get(name)
    if (last && Date.now() < last.until) return last.version
    if (Date.now() < (missing.get(name) ?? 0)) return undefined
    if (Date.now() < (unconfirmed.get(name) ?? 0)) return CACHED
    const question = questions.get(name) ?? askVersion(name)
    questions.set(name, question)
    return unlessAborted(question, signal)
  }

  return {
    async find(name, signal): Promise<FoundAdapter | undefined> {
      signal.throwIfAborted()
      if (!isHubName(name) || !allowed.has(name.slice(0, name.indexOf('/')))) return undefined
      const version = await versionOf(name, signal)
      if (version === undefined) return undefined
      return {
        version,
        read: async (signal) => {
          await checkNotLocal(name)
          return loadAdapter(name, {
            revision: version === CACHED ? revision : version,
            offline: offline || version === CACHED,
            hubUrl,
            maxBytes,
            signal,
            onWarning,
            ...(token !== undefined && { token }),
            ...(cacheDir !== undefined && { cacheDir }),
          })
        },
      }
    },
  }
}

/** Adds an entry to a map that keeps the newest ones. */
function remember<Value>(map: Map<string, Value>, name: string, value: Value): void {
  for (const [oldest] of map) {
    if (map.size < MAX_KNOWN) break
    map.delete(oldest)
  }
  map.set(name, value)
}

/** Bounds the questions that are asked at a time. */
class QuestionSlots {
  #free = MAX_QUESTIONS
  readonly #waiting: (() => void)[] = []

  /** @throws {ServerError} `queue_full` if too many wait */
  async take(isFirst: boolean): Promise<void> {
    if (this.#free > 0) {
      this.#free--
      return
    }
    if (this.#waiting.length >= MAX_WAITING && !isFirst) {
      throw new ServerError('queue_full', 'too many adapters are being looked up on the hub', {
        param: 'model',
        retryAfter: 1,
      })
    }
    await new Promise<void>((resolve) => {
      if (isFirst) this.#waiting.unshift(resolve)
      else this.#waiting.push(resolve)
    })
  }

  give(): void {
    const next = this.#waiting.shift()
    if (next) next()
    else this.#free++
  }
}

/** The hub cannot be reached, or is out of order. */
class Unreachable extends Error {}

/** Asks the hub for the commit of a revision. @returns undefined if the repository or the revision does not exist, or is not for this token */
async function commitOf(
  name: string,
  {
    revision,
    token,
    hubUrl,
  }: { readonly revision: string; readonly token: string | undefined; readonly hubUrl: string },
): Promise<string | undefined> {
  const path = `api/models/${name}/revision/${encodeURIComponent(revision)}`
  const url = new URL(path, hubUrl.replace(/\/?$/, '/'))
  try {
    const response = await fetch(url, {
      headers: {
        accept: 'application/json',
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
      signal: AbortSignal.timeout(QUESTION_MS),
    })
    if (!response.ok || !response.body) {
      await response.body?.cancel()
      if ([401, 403, 404].includes(response.status)) return undefined
      throw new Unreachable(`the hub answered ${response.status}`)
    }
    return v.parse(Revision, JSON.parse(await textOf(response.body))).sha
  } catch (cause) {
    throw cause instanceof Unreachable ? cause : new Unreachable('the hub did not answer', { cause })
  }
}

async function textOf(body: ReadableStream<Uint8Array>): Promise<string> {
  const pieces: Uint8Array[] = []
  let length = 0
  for await (const piece of body) {
    length += piece.length
    if (length > MAX_ANSWER_BYTES) throw new Unreachable('the answer of the hub is too large')
    pieces.push(piece)
  }
  return Buffer.concat(pieces).toString('utf8')
}

/** `loadAdapter` prefers a directory of the same name, but names of requests are never paths. */
async function checkNotLocal(name: string): Promise<void> {
  if (!(await isFolder(name))) return
  throw new ServerError(
    'invalid_adapter',
    `adapter '${name}': the server was started in a folder that contains a folder of this name, so the hub cannot be used for it`,
    { param: 'model' },
  )
}

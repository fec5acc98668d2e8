/**
 * All that this package takes for true of `@huggingface/transformers` 4.3; `library.test.ts` holds each of it against the installed
 * version. Everything else in this package sees a model through this file.
 *
 * Where a model's files are is the hard question: a session does not tell what it was made from, nor a model by what name it was loaded.
 * So the name and the options are noted when a model is loaded: `PreTrainedModel.from_pretrained`, a public function which every
 * `AutoModel` and pipeline calls, gets a doorman that passes everything through. What sessions are made from only `InferenceSession.create`
 * sees: the resolved file and the final options together. So a load can be given a mark in the session options, and while such a load is
 * under way `create` asks the mark what to do. In Node every load has one, and the paths are noted. The `InferenceSession` of a bundle or
 * of the CDN build cannot be reached before there is a session, and there models are bytes, which nobody should hold: there, once an adapter
 * needs the files, transformers.js is asked to load the model again, with a mark that answers with what `create` was given instead of a session.
 * So dtype, device, caches, revisions, external data and whatever else decides about files and options are decided by transformers.js, and no
 * rule of it is written down here a second time. (Loading again in Node would do, too, but transformers.js reads a file there whole, into
 * memory, of which it needs the path alone.)
 */
import { FourierFTError } from '@fourierft/core'
import type { Ort } from '@fourierft/onnxruntime'
import {
  env,
  ModelFileNotFoundError,
  PreTrainedModel,
  type PretrainedModelOptions,
  Tensor,
} from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'

/** How a model was loaded. */
export interface Origin {
  /** What `from_pretrained` calls `pretrained_model_name_or_path`. */
  readonly name: string
  readonly options: PretrainedModelOptions
  /** What its sessions were made from, as far as it was seen. */
  readonly sessions?: WeakMap<InferenceSession, SessionOrigin>
}

/** What transformers.js makes a session from. */
export interface SessionOrigin {
  /** A path in Node, bytes in browsers. */
  readonly model: string | Uint8Array
  readonly options: InferenceSession.SessionOptions
  /** dtype and device, as far as they are told. */
  readonly config?: unknown
}

/** One of a model's sessions: ONNX Runtime's, with the dtype and the device that transformers.js has chosen. */
export interface ModelSession {
  readonly inputNames: readonly string[]
  readonly outputNames: readonly string[]
  readonly inputMetadata: readonly InferenceSession.ValueMetadata[]
  readonly outputMetadata: readonly InferenceSession.ValueMetadata[]
  run(...args: Parameters<InferenceSession['run']>): Promise<InferenceSession.ReturnType>
  release(): Promise<void>
  config?: unknown
}

/** A pipeline, as far as it matters here. */
export interface PipelineLike {
  model: PreTrainedModel
}

const origins = new WeakMap<PreTrainedModel, Origin>()
const loadModel = PreTrainedModel.from_pretrained

PreTrainedModel.from_pretrained = async function (
  this: typeof PreTrainedModel,
  name,
  options = {},
): Promise<PreTrainedModel> {
  const sessions = new WeakMap<InferenceSession, SessionOrigin>()
  const load = (options: PretrainedModelOptions) => loadModel.call(this, name, options)
  const ort = isAnswered(options) ? undefined : await platform.loadOrt()
  const model = await (ort ? answered(ort.InferenceSession, options, noteIn(sessions), load) : load(options))
  origins.set(model, { name, options, sessions })
  return model
}

/** How the model was loaded; undefined where this package was not there yet. */
export function originOf(model: PreTrainedModel): Origin | undefined {
  return origins.get(model)
}

/** The model of a pipeline, or the model itself; undefined for what is neither. */
export function modelOf(target: unknown): PreTrainedModel | undefined {
  const isObject = (value: unknown): value is object =>
    (typeof value === 'object' && value !== null) || typeof value === 'function'
  if (!isObject(target)) return undefined
  if ('sessions' in target && isObject(target.sessions)) return target as PreTrainedModel
  return 'model' in target && isObject(target.model) && target.model !== target
    ? modelOf(target.model)
    : undefined
}

/** ONNX Runtime's own sessions of a model, by the names that it calls them. */
export function sessionsOf(model: PreTrainedModel): ReadonlyMap<string, InferenceSession> {
  const isSession = (value: unknown) =>
    typeof value === 'object' && value !== null && 'run' in value && 'inputNames' in value
  return new Map(Object.entries(model.sessions).filter(([, session]) => isSession(session)))
}

/** `dtype` and `device` as transformers.js has chosen them, where that is one for all of the model's sessions. */
export function chosenOptions(model: PreTrainedModel): PretrainedModelOptions {
  const configs = Array.from(sessionsOf(model).values(), (session) => (session as ModelSession).config)
  const of = (key: 'dtype' | 'device') => {
    const [value, ...others] = new Set(configs.map((config) => (config as PretrainedModelOptions)?.[key]))
    return value !== undefined && others.length === 0 ? { [key]: value } : {}
  }
  return { ...of('dtype'), ...of('device') }
}

/**
 * The names of the methods by which users and pipelines call a model or a pipeline: `_call`, `forward`, `generate`,
 * `get_image_embeddings`, … All of them are asynchronous, and none of the others runs a session by itself.
 */
export function callNames(target: object): string[] {
  const AsyncFunction = (async () => {}).constructor
  const names = new Set<string>()
  let owner = Object.getPrototypeOf(target)
  for (
    ;
    owner && owner !== Function.prototype && owner !== Object.prototype;
    owner = Object.getPrototypeOf(owner)
  )
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(owner)))
      if (value instanceof AsyncFunction && (name === '_call' || !name.startsWith('_'))) names.add(name)
  names.delete('dispose')
  return [...names]
}

/** The ONNX Runtime that made the session. */
export async function ortOf(session: InferenceSession): Promise<Ort> {
  const InferenceSession = session.constructor as unknown as Ort['InferenceSession']
  const installed = await platform.loadOrt()
  if (installed?.InferenceSession === InferenceSession) return installed
  // A copy that cannot be imported: it takes no native kernel, whatever it runs on.
  const { node: _, ...versions } = env.backends.onnx.versions ?? {}
  const { ort_tensor } = new Tensor('float32', Float32Array.of(0), [1]) as unknown as { ort_tensor: object }
  return {
    InferenceSession,
    Tensor: ort_tensor.constructor as Ort['Tensor'],
    env: { ...env.backends.onnx, versions } as Ort['env'],
    registerBackend() {
      throw new FourierFTError(
        'UNSUPPORTED',
        'this ONNX Runtime is inside of transformers.js; it takes no backend',
      )
    },
  }
}

/** Whether transformers.js found a model's file nowhere. */
export function isMissingFile(error: unknown): boolean {
  return error instanceof ModelFileNotFoundError
}

/** In the session options of a load: what it gets in the place of each session. */
const ANSWER = Symbol('@fourierft/transformers: answer')

/** @param make what transformers.js wants, a session */
type Answer = (origin: SessionOrigin, make: () => Promise<InferenceSession>) => unknown

type Create = (model: string | Uint8Array, options?: object, ...rest: unknown[]) => Promise<unknown>

/** ONNX Runtime's classes whose `create` looks for answers now, for so many loads. */
const answering = new Map<object, { loads: number; readonly restore: () => void }>()

function isAnswered({ session_options }: PretrainedModelOptions): boolean {
  return session_options !== undefined && ANSWER in session_options
}

/** A load whose sessions the answer makes. */
async function answered(
  Session: object,
  options: PretrainedModelOptions,
  answer: Answer,
  load: (options: PretrainedModelOptions) => Promise<PreTrainedModel>,
): Promise<PreTrainedModel> {
  const open = answering.get(Session) ?? { loads: 0, restore: answerIn(Session as { create: Create }) }
  answering.set(Session, open)
  open.loads++
  try {
    return await load({
      ...options,
      session_options: { ...options.session_options, [ANSWER]: answer } as object,
    })
  } finally {
    open.loads--
    if (open.loads === 0) {
      answering.delete(Session)
      open.restore()
    }
  }
}

/** Has `create` look for answers. @returns what gives it back */
function answerIn(Session: { create: Create }): () => void {
  const { create } = Session
  const ours: Create = async function (this: unknown, model, given, ...rest) {
    if (!given || !(ANSWER in given)) return create.call(this, model, given, ...rest)
    const { [ANSWER]: answer, ...options } = given
    const make = () => create.call(this, model, options, ...rest) as Promise<InferenceSession>
    return (answer as Answer)({ model, options }, make)
  }
  Session.create = ours
  return () => {
    if (Session.create === ours) Session.create = create
  }
}

/** Notes what sessions are made from, but for bytes. */
function noteIn(sessions: WeakMap<InferenceSession, SessionOrigin>): Answer {
  return async (origin, make) => {
    const session = await make()
    const { externalData = [] } = origin.options
    const isBytes = (file: unknown) =>
      typeof (typeof file === 'object' && file && 'data' in file ? file.data : file) !== 'string'
    if (![origin.model, ...externalData].some(isBytes)) sessions.set(session, origin)
    return session
  }
}

/** What stands in for a session in such a load. */
class LocatedSession implements SessionOrigin {
  readonly model: SessionOrigin['model']
  readonly options: SessionOrigin['options']
  /** transformers.js leaves dtype and device here. */
  config: unknown

  constructor(model: SessionOrigin['model'], options: SessionOrigin['options']) {
    this.model = model
    this.options = options
  }
}

/**
 * What transformers.js would make the model's own sessions from, by their names. Where that was not noted this reads the files (from the cache, usually).
 *
 * @throws {FourierFTError} `FILE_NOT_FOUND` where there is no such model, `UNSUPPORTED` where transformers.js does something else than this
 *   file takes for true
 */
export async function locateSessions(
  model: PreTrainedModel,
  sessions: ReadonlyMap<string, InferenceSession>,
  { name, options, sessions: noted }: Origin,
): Promise<ReadonlyMap<string, SessionOrigin>> {
  const origins = Array.from(sessions, ([key, session]) => [key, noted?.get(session)] as const)
  const known = origins.filter((each): each is readonly [string, SessionOrigin] => each[1] !== undefined)
  if (known.length === sessions.size) return new Map(known)
  const { progress_callback: _, ...quiet } = options
  const [session] = sessions.values()
  const load = answered(
    session?.constructor,
    quiet,
    ({ model, options }) => new LocatedSession(model, options),
    (options) => (model.constructor as typeof PreTrainedModel).from_pretrained(name, options),
  )
  const loaded = await load.catch((cause) => {
    if (!isMissingFile(cause)) throw cause
    throw new FourierFTError(
      'FILE_NOT_FOUND',
      `${name}: transformers.js does not find the model's files there again (${cause.message}); the options model and modelOptions of ` +
        'attach() say where they are',
      { file: name, option: 'model', cause },
    )
  })
  const located = new Map<string, SessionOrigin>()
  for (const key of sessions.keys()) {
    const origin: unknown = loaded.sessions[key]
    if (origin instanceof LocatedSession) located.set(key, origin)
    else {
      await loaded.dispose()
      throw new FourierFTError(
        'UNSUPPORTED',
        `@huggingface/transformers ${env.version} does not tell the file of its session '${key}'; this package was made for 4.3`,
        { expected: '4.3', received: env.version },
      )
    }
  }
  return located
}

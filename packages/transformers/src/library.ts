/**
 * Everything that this package assumes about `@huggingface/transformers` 4.3; `library.test.ts` checks each assumption against the installed
 * version. The rest of the package accesses models through this file.
 *
 * The hard part is to find a model's files: a session does not store the file from which it was created, and a model does not store the name from
 * which it was loaded. So this file wraps `PreTrainedModel.from_pretrained`, a public function that every `AutoModel` and pipeline calls, and
 * records the name and the options. Only `InferenceSession.create` receives the resolved file and the final options of a session. So this file
 * puts an interceptor into the session options of a load, and replaces `create`, while the load runs, by a function that calls the interceptor.
 *
 * - In Node, every load has an interceptor that records the paths.
 * - In browsers, the `InferenceSession` of a bundle or of the CDN build is unknown until a session exists, and models are bytes, which should
 *   not stay in memory. So when an adapter needs the files, transformers.js loads the model again, with an interceptor that returns the
 *   arguments of `create` instead of a session. (This would also work in Node, but transformers.js would read the whole file into memory.)
 *
 * So only transformers.js decides about dtype, device, caches, revisions and external data, and none of its rules are repeated here.
 */
import { FourierFTError } from '@fourierft/core'
import type { Ort } from '@fourierft/onnxruntime'
import {
  env,
  ModelFileNotFoundError,
  PreTrainedModel,
  type PreTrainedTokenizer,
  type PretrainedModelOptions,
  type Processor,
  Tensor,
} from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'

/** How a model was loaded. */
export interface ModelOrigin {
  /** The argument `pretrained_model_name_or_path` of `from_pretrained`. */
  readonly name: string
  readonly options: PretrainedModelOptions
  /** The recorded origins of the model's sessions. */
  readonly sessions?: WeakMap<InferenceSession, SessionOrigin>
}

/** The arguments from which transformers.js creates a session. */
export interface SessionOrigin {
  /** A path in Node, bytes in browsers. */
  readonly model: string | Uint8Array
  readonly options: InferenceSession.SessionOptions
  /** dtype and device, if they are known. */
  readonly config?: unknown
}

/** A session of a model: ONNX Runtime's session with the field `config`, in which transformers.js stores dtype and device. */
export interface ModelSession {
  readonly inputNames: readonly string[]
  readonly outputNames: readonly string[]
  readonly inputMetadata: readonly InferenceSession.ValueMetadata[]
  readonly outputMetadata: readonly InferenceSession.ValueMetadata[]
  run(...args: Parameters<InferenceSession['run']>): Promise<InferenceSession.ReturnType>
  release(): Promise<void>
  config?: unknown
}

/** The part of a pipeline that this package uses. */
export interface PipelineLike {
  /** Without an alias: `text-classification`, not `sentiment-analysis`. */
  readonly task?: string
  readonly tokenizer?: PreTrainedTokenizer | null
  readonly processor?: Processor | null
  model: PreTrainedModel
}

const origins = new WeakMap<PreTrainedModel, ModelOrigin>()
const loadModel = PreTrainedModel.from_pretrained

PreTrainedModel.from_pretrained = async function (
  this: typeof PreTrainedModel,
  name,
  options = {},
): Promise<PreTrainedModel> {
  const sessions = new WeakMap<InferenceSession, SessionOrigin>()
  const load = (options: PretrainedModelOptions) => loadModel.call(this, name, options)
  const ort = isIntercepted(options) ? undefined : await platform.loadOrt()
  const model = await (ort
    ? loadIntercepted(ort.InferenceSession, options, recorder(sessions), load)
    : load(options))
  origins.set(model, { name, options, sessions })
  return model
}

/** Returns how the model was loaded; undefined if it was loaded before this package was imported. */
export function originOf(model: PreTrainedModel): ModelOrigin | undefined {
  return origins.get(model)
}

/** Returns the model of a pipeline, or the model itself; undefined for any other value. */
export function modelOf(target: unknown): PreTrainedModel | undefined {
  const isObject = (value: unknown): value is object =>
    (typeof value === 'object' && value !== null) || typeof value === 'function'
  if (!isObject(target)) return undefined
  if ('sessions' in target && isObject(target.sessions)) return target as PreTrainedModel
  return 'model' in target && isObject(target.model) && target.model !== target
    ? modelOf(target.model)
    : undefined
}

/** Returns the ONNX Runtime sessions of a model by transformers.js' names. */
export function sessionsOf(model: PreTrainedModel): ReadonlyMap<string, InferenceSession> {
  const isSession = (value: unknown) =>
    typeof value === 'object' && value !== null && 'run' in value && 'inputNames' in value
  return new Map(Object.entries(model.sessions).filter(([, session]) => isSession(session)))
}

/** Returns `dtype` and `device` as transformers.js has chosen them, if they are the same for all of the model's sessions. */
export function chosenOptions(model: PreTrainedModel): PretrainedModelOptions {
  const configs = Array.from(sessionsOf(model).values(), (session) => (session as ModelSession).config)
  const common = (key: 'dtype' | 'device') => {
    const [value, ...others] = new Set(configs.map((config) => (config as PretrainedModelOptions)?.[key]))
    return value !== undefined && others.length === 0 ? { [key]: value } : {}
  }
  return { ...common('dtype'), ...common('device') }
}

/**
 * Returns the names of the methods by which users and pipelines call a model or a pipeline: `_call`, `forward`, `generate`,
 * `get_image_embeddings`, … All of them are asynchronous. Other methods do not run sessions directly.
 */
export function callNames(target: object): string[] {
  const AsyncFunction = (async () => {}).constructor
  const names = new Set<string>()
  let prototype = Object.getPrototypeOf(target)
  for (
    ;
    prototype && prototype !== Function.prototype && prototype !== Object.prototype;
    prototype = Object.getPrototypeOf(prototype)
  )
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(prototype)))
      if (value instanceof AsyncFunction && (name === '_call' || !name.startsWith('_'))) names.add(name)
  names.delete('dispose')
  return [...names]
}

/** Returns the ONNX Runtime that created the session. */
export async function ortOf(session: InferenceSession): Promise<Ort> {
  const InferenceSession = session.constructor as unknown as Ort['InferenceSession']
  const installed = await platform.loadOrt()
  if (installed?.InferenceSession === InferenceSession) return installed
  // This copy cannot be imported, so it cannot use the native kernel, even in Node.
  const { node: _, ...versions } = env.backends.onnx.versions ?? {}
  const { ort_tensor } = new Tensor('float32', Float32Array.of(0), [1]) as unknown as { ort_tensor: object }
  return {
    InferenceSession,
    Tensor: ort_tensor.constructor as Ort['Tensor'],
    env: { ...env.backends.onnx, versions } as Ort['env'],
    registerBackend() {
      throw new FourierFTError(
        'UNSUPPORTED',
        'this ONNX Runtime is part of transformers.js and does not accept backends',
      )
    },
  }
}

/** Whether transformers.js did not find a model's file. */
export function isMissingFile(error: unknown): boolean {
  return error instanceof ModelFileNotFoundError
}

/** The key of the interceptor in the session options of a load. */
const INTERCEPTOR = Symbol('@fourierft/transformers: interceptor')

/** Is called instead of `InferenceSession.create`. Its parameter `create` calls the original function. */
type Interceptor = (origin: SessionOrigin, create: () => Promise<InferenceSession>) => unknown

type Create = (model: string | Uint8Array, options?: object, ...rest: unknown[]) => Promise<unknown>

/** The classes whose `create` calls interceptors at present, and the number of running loads that need it. */
const intercepted = new Map<object, { loads: number; readonly restore: () => void }>()

function isIntercepted({ session_options }: PretrainedModelOptions): boolean {
  return session_options !== undefined && INTERCEPTOR in session_options
}

/** Runs a load in which the interceptor creates the sessions. */
async function loadIntercepted(
  Session: object,
  options: PretrainedModelOptions,
  interceptor: Interceptor,
  load: (options: PretrainedModelOptions) => Promise<PreTrainedModel>,
): Promise<PreTrainedModel> {
  const state = intercepted.get(Session) ?? {
    loads: 0,
    restore: interceptCreate(Session as { create: Create }),
  }
  intercepted.set(Session, state)
  state.loads++
  try {
    return await load({
      ...options,
      session_options: { ...options.session_options, [INTERCEPTOR]: interceptor } as object,
    })
  } finally {
    state.loads--
    if (state.loads === 0) {
      intercepted.delete(Session)
      state.restore()
    }
  }
}

/** Makes `create` call interceptors. @returns a function that restores it */
function interceptCreate(Session: { create: Create }): () => void {
  const { create } = Session
  const wrapper: Create = async function (this: unknown, model, allOptions, ...rest) {
    if (!allOptions || !(INTERCEPTOR in allOptions)) return create.call(this, model, allOptions, ...rest)
    const { [INTERCEPTOR]: interceptor, ...options } = allOptions
    const createSession = () => create.call(this, model, options, ...rest) as Promise<InferenceSession>
    return (interceptor as Interceptor)({ model, options }, createSession)
  }
  Session.create = wrapper
  return () => {
    if (Session.create === wrapper) Session.create = create
  }
}

/** Creates an interceptor that records the origins of sessions, unless they are bytes. */
function recorder(sessions: WeakMap<InferenceSession, SessionOrigin>): Interceptor {
  return async (origin, create) => {
    const session = await create()
    const { externalData = [] } = origin.options
    const isBytes = (file: unknown) =>
      typeof (typeof file === 'object' && file && 'data' in file ? file.data : file) !== 'string'
    if (![origin.model, ...externalData].some(isBytes)) sessions.set(session, origin)
    return session
  }
}

/** Replaces a session in a load whose only purpose is to find files. */
class SessionPlaceholder implements SessionOrigin {
  readonly model: SessionOrigin['model']
  readonly options: SessionOrigin['options']
  /** transformers.js stores dtype and device here. */
  config: unknown

  constructor(model: SessionOrigin['model'], options: SessionOrigin['options']) {
    this.model = model
    this.options = options
  }
}

/**
 * Returns the origins of the model's sessions by their names. If they were not recorded, this reads the files, usually from the cache.
 *
 * @throws {FourierFTError} `FILE_NOT_FOUND` if there is no such model, `UNSUPPORTED` if transformers.js does not behave as this file assumes
 */
export async function findSessionOrigins(
  model: PreTrainedModel,
  sessions: ReadonlyMap<string, InferenceSession>,
  { name, options, sessions: recorded }: ModelOrigin,
): Promise<ReadonlyMap<string, SessionOrigin>> {
  const origins = Array.from(sessions, ([key, session]) => [key, recorded?.get(session)] as const)
  const recordedOrigins = origins.filter(
    (entry): entry is readonly [string, SessionOrigin] => entry[1] !== undefined,
  )
  if (recordedOrigins.length === sessions.size) return new Map(recordedOrigins)
  const { progress_callback: _, ...quietOptions } = options
  const [session] = sessions.values()
  const load = loadIntercepted(
    session?.constructor,
    quietOptions,
    ({ model, options }) => new SessionPlaceholder(model, options),
    (options) => (model.constructor as typeof PreTrainedModel).from_pretrained(name, options),
  )
  const loaded = await load.catch((cause) => {
    if (!isMissingFile(cause)) throw cause
    throw new FourierFTError(
      'FILE_NOT_FOUND',
      `${name}: transformers.js does not find the model's files (${cause.message})`,
      {
        advice: 'pass their location as the options model and modelOptions of attach()',
        file: name,
        option: 'model',
        cause,
      },
    )
  })
  const found = new Map<string, SessionOrigin>()
  for (const key of sessions.keys()) {
    const origin: unknown = loaded.sessions[key]
    if (origin instanceof SessionPlaceholder) found.set(key, origin)
    else {
      await loaded.dispose()
      throw new FourierFTError(
        'UNSUPPORTED',
        `@huggingface/transformers ${env.version} does not reveal the file of its session '${key}'`,
        {
          advice: 'use version 4.3, with which this package was tested',
          expected: '4.3',
          received: env.version,
        },
      )
    }
  }
  return found
}

/** `createSession`: an ONNX model, opened in the user's own ONNX Runtime, ready for adapters. */
import { Adapter, type AdapterSource, FourierFTError, loadAdapter } from '@fourierft/core'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'
import { AdaptedSession } from './adapted-session.js'
import { ModelSessions } from './model-sessions.js'
import { ModelFile, type ModelSource } from './model-source.js'
import type { ModuleNames } from './module-names.js'
import { registerFourierFTBackend } from './native-backend.js'
import { nativeProviders } from './native-providers.js'
import type { Ort } from './ort.js'

/** ONNX Runtime's own options, and ours. */
export interface SessionOptions extends InferenceSession.SessionOptions {
  /** One adapter, which is called `default`, or several by their names; the first is active. */
  readonly adapters?: AdapterSource | Adapter | Readonly<Record<string, AdapterSource | Adapter>>
  readonly moduleNames?: ModuleNames
  /** The native kernel: where it can be (`auto`, the default), never, or not without it. */
  readonly native?: 'auto' | boolean
  /** The ONNX Runtime to use. In Node the installed `onnxruntime-node` if none is given; elsewhere one has to be given, as `onnxruntime-web`. */
  readonly ort?: Ort
  /** An open session of this very model: it serves, instead of a new one, until adapters need another, and is released then. */
  readonly session?: InferenceSession
}

const OPTIONS = [
  'adapters',
  'moduleNames',
  'native',
  'ort',
  'session',
] as const satisfies (keyof SessionOptions)[]

let isTold = false

/**
 * Opens a model.
 *
 * @param model a path (Node) or URL of a file `.onnx`, or its bytes (a `Uint8Array`, or an `ArrayBuffer`, which may be shared), which must stay as they are; files are read again when adapters need
 *   another graph, and their external data stay where they are
 * @throws {FourierFTError} `INVALID_ONNX`, `FILE_NOT_FOUND`, `IO_ERROR`, `INVALID_OPTION`, `UNSUPPORTED` (no ONNX Runtime; `native: true`
 *   where there is no native kernel; outputs that are to stay on a device with it), and what `loadAdapter` throws
 */
export async function createSession(
  model: ModelSource,
  options: SessionOptions = {},
): Promise<AdaptedSession> {
  const {
    adapters,
    moduleNames = {},
    native = 'auto',
    ort: given,
    session: open,
    ...sessionOptions
  } = options
  checkNames(sessionOptions)
  const named = adaptersByName(adapters)
  if (native !== 'auto' && typeof native !== 'boolean')
    throw new FourierFTError('INVALID_OPTION', `native: expected 'auto', true or false; received ${native}`, {
      option: 'native',
      received: native,
    })
  const ort = given ?? (await platform.loadOrt())
  const file = new ModelFile(model, { leavesWeights: readsFiles(ort, sessionOptions) })
  const own = await nativeProviders(native, ort, sessionOptions)
  const nativeProblem = 'problem' in own ? own.problem : undefined
  if (nativeProblem === undefined) {
    checkOutputLocation(sessionOptions)
    registerFourierFTBackend(ort)
  } else if (native === true)
    throw new FourierFTError('UNSUPPORTED', `native: the native kernel cannot be used: ${nativeProblem}`, {
      option: 'native',
    })
  else if (native === 'auto' && ort.env.versions.node !== undefined && !isTold) {
    isTold = true
    console.info(`@fourierft/onnxruntime runs without the native kernel: ${nativeProblem}`)
  }
  const ownOptions =
    'providers' in own ? { ...sessionOptions, executionProviders: own.providers } : sessionOptions
  const loaded = new Map<string, Adapter>()
  for (const [name, source] of named)
    loaded.set(name, source instanceof Adapter ? source : await loadAdapter(source))
  const parts = {
    sessions: new ModelSessions(ort, file, ownOptions),
    moduleNames,
    nativeProblem,
    runsAlone: ort.env.versions.web !== undefined,
  }
  return AdaptedSession.create(parts, loaded, open)
}

/** Options that are not ours are ONNX Runtime's, which may get more of them: what is refused is ours but for case and plural. */
function checkNames(others: object): void {
  const plain = (name: string) => name.toLowerCase().replace(/s$/, '')
  for (const option of Object.keys(others)) {
    const meant = OPTIONS.find((own) => plain(own) === plain(option))
    if (meant !== undefined)
      throw new FourierFTError(
        'INVALID_OPTION',
        `${option}: there is no such option; did you mean ${meant}?`,
        { option, expected: meant },
      )
  }
}

/** The native kernel's sessions give their outputs to JavaScript. */
function checkOutputLocation({ preferredOutputLocation: wanted = 'cpu' }: InferenceSession.SessionOptions) {
  const locations = typeof wanted === 'string' ? [wanted] : Object.values(wanted)
  const other = locations.find((location) => location !== 'cpu')
  if (other !== undefined)
    throw new FourierFTError(
      'UNSUPPORTED',
      `preferredOutputLocation: sessions with the native kernel give their outputs on the cpu; received '${other}'. ` +
        "Leave it out, or choose a provider that keeps tensors on its device: executionProviders: ['webgpu']",
      { option: 'preferredOutputLocation', expected: 'cpu', received: other },
    )
}

/** Whether this runtime finds weights in the folder of a model that it gets as bytes; the user may have named another one. */
function readsFiles({ env }: Ort, { externalData, extra }: InferenceSession.SessionOptions): boolean {
  const isTold = JSON.stringify(extra ?? {}).includes('model_external_initializers_file_folder_path')
  // onnxruntime-node passes that option on from 1.22 on.
  const [major = 0, minor = 0] = (env.versions.node ?? '0').split('.').map(Number)
  return (major > 1 || (major === 1 && minor >= 22)) && externalData === undefined && !isTold
}

function adaptersByName(adapters: SessionOptions['adapters']): [string, AdapterSource | Adapter][] {
  if (adapters === undefined) return []
  if (typeof adapters !== 'string' && (typeof adapters !== 'object' || adapters === null))
    throw new FourierFTError(
      'INVALID_OPTION',
      `adapters: expected an adapter, its directory or URL, or several by their names; received ${adapters === null ? 'null' : typeof adapters}`,
      { option: 'adapters', received: adapters },
    )
  const isOne =
    typeof adapters === 'string' ||
    adapters instanceof URL ||
    adapters instanceof Adapter ||
    Symbol.iterator in adapters ||
    ('config' in adapters && adapters.config instanceof Uint8Array)
  return isOne
    ? [['default', adapters as AdapterSource | Adapter]]
    : Object.entries(adapters as Readonly<Record<string, AdapterSource | Adapter>>)
}

/** `createSession`: opens an ONNX model in the user's own ONNX Runtime, ready for adapters. */
import { Adapter, type AdapterSource, FourierFTError, loadAdapter } from '@fourierft/core'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'
import { AdaptedSession } from './adapted-session.js'
import type { ModelSource } from './model-source.js'
import { type ModuleNames, readModuleNames } from './module-names.js'
import { openSessions } from './open-sessions.js'
import type { Ort } from './ort.js'

/** ONNX Runtime's options, and those of this package. */
export interface SessionOptions extends InferenceSession.SessionOptions {
  /** One adapter, which gets the name `default`, or several by their names. The first is active. */
  readonly adapters?: AdapterSource | Adapter | Readonly<Record<string, AdapterSource | Adapter>>
  readonly moduleNames?: ModuleNames
  /** Whether to use the native kernel: if it is available (`auto`, the default), never (false), or always (true). */
  readonly native?: 'auto' | boolean
  /** The ONNX Runtime to use. Default in Node: the installed `onnxruntime-node`. Required in browsers: `onnxruntime-web`, for example. */
  readonly ort?: Ort
  /** An open session of the same model. It is used until adapters need another session, and then released. */
  readonly session?: InferenceSession
}

const OPTIONS = [
  'adapters',
  'moduleNames',
  'native',
  'ort',
  'session',
] as const satisfies (keyof SessionOptions)[]

/**
 * Opens a model with adapters.
 *
 * @param model the path (Node) or URL of an `.onnx` file, its bytes, or a function that reads it. Bytes must not change while the session is
 *   open. Files are read again when adapters need another graph. External data are read from their own files.
 * @throws {FourierFTError} `INVALID_ONNX`, `FILE_NOT_FOUND`, `IO_ERROR`, `INVALID_OPTION`; `UNSUPPORTED` if there is no ONNX Runtime, no
 *   native kernel despite `native: true`, or if outputs are requested in a place where the native kernel cannot leave them; and the errors of
 *   `loadAdapter`
 */
export async function createSession(
  model: ModelSource,
  options: SessionOptions = {},
): Promise<AdaptedSession> {
  const {
    adapters,
    moduleNames = {},
    native = 'auto',
    ort: chosenOrt,
    session: openSession,
    ...sessionOptions
  } = options
  checkOptionNames(sessionOptions)
  readModuleNames(moduleNames)
  const sources = adaptersByName(adapters)
  const ort = chosenOrt ?? (await platform.loadOrt())
  const sessions = await openSessions(model, { ort, native, sessionOptions })
  const loaded = new Map<string, Adapter>()
  for (const [name, source] of sources)
    loaded.set(name, Adapter.isInstance(source) ? source : await loadAdapter(source))
  return AdaptedSession.create(sessions, { adapters: loaded, moduleNames, openSession })
}

/** Rejects options whose names differ from an option of this package only in case or plural. ONNX Runtime gets all other unknown options. */
function checkOptionNames(unknownOptions: object): void {
  const normalise = (name: string) => name.toLowerCase().replace(/s$/, '')
  for (const option of Object.keys(unknownOptions)) {
    const intended = OPTIONS.find((name) => normalise(name) === normalise(option))
    if (intended !== undefined)
      throw new FourierFTError('INVALID_OPTION', `${option}: there is no such option`, {
        advice: `did you mean ${intended}?`,
        option,
        expected: intended,
      })
  }
}

function adaptersByName(adapters: SessionOptions['adapters']): [string, AdapterSource | Adapter][] {
  if (adapters === undefined) return []
  if (typeof adapters !== 'string' && (typeof adapters !== 'object' || adapters === null))
    throw new FourierFTError(
      'INVALID_OPTION',
      `adapters: expected an adapter, its directory or URL, or several by their names; received ${adapters === null ? 'null' : typeof adapters}`,
      { option: 'adapters', received: adapters },
    )
  const isSingle =
    typeof adapters === 'string' ||
    adapters instanceof URL ||
    Adapter.isInstance(adapters) ||
    Symbol.iterator in adapters ||
    ('config' in adapters && adapters.config instanceof Uint8Array)
  return isSingle
    ? [['default', adapters as AdapterSource | Adapter]]
    : Object.entries(adapters as Readonly<Record<string, AdapterSource | Adapter>>)
}

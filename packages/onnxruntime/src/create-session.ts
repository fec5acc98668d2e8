/** `createSession`: an ONNX model, opened in the user's own ONNX Runtime, ready for adapters. */
import { Adapter, type AdapterSource, FourierFTError, loadAdapter } from '@fourierft/core'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'
import { AdaptedSession } from './adapted-session.js'
import type { ModelSource } from './model-source.js'
import { type ModuleNames, readModuleNames } from './module-names.js'
import { openSessions } from './open-sessions.js'
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
  checkOptionNames(sessionOptions)
  readModuleNames(moduleNames)
  const named = adaptersByName(adapters)
  const ort = given ?? (await platform.loadOrt())
  const sessions = await openSessions(model, { ort, native, sessionOptions })
  const loaded = new Map<string, Adapter>()
  for (const [name, source] of named)
    loaded.set(name, Adapter.isInstance(source) ? source : await loadAdapter(source))
  return AdaptedSession.create(sessions, { adapters: loaded, moduleNames, open })
}

/** Options that are not ours are ONNX Runtime's, which may get more of them: what is refused is ours but for case and plural. */
function checkOptionNames(others: object): void {
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
    Adapter.isInstance(adapters) ||
    Symbol.iterator in adapters ||
    ('config' in adapters && adapters.config instanceof Uint8Array)
  return isOne
    ? [['default', adapters as AdapterSource | Adapter]]
    : Object.entries(adapters as Readonly<Record<string, AdapterSource | Adapter>>)
}

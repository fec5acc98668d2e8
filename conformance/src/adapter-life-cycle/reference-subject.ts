/**
 * A minimal implementation of `AdapterSet` and its host: a model of two layers on plain arrays, whose sessions must be reopened if entries
 * change, and whose calls have two steps. It is an example, and the base of the mutants in `mutants.ts`.
 */
import {
  type Adapter,
  type AdapterHost,
  AdapterSet,
  type Applied,
  type CallState,
  createAdapter,
  createConfig,
  FourierFTError,
  type FourierFTOptions,
  type MatchedAdapter,
  type RowAdapter,
  readSavedModule,
  referenceDelta,
  savedModule,
} from '@fourierft/core'
import { seededValues } from '../seeded-values.js'
import type { AdapterSubject, AdapterSubjects } from './subject.js'

const LAYER = { module: 'linear', shape: [5, 6] } as const
const HEAD = { module: 'head', shape: [4, 5], hasBias: false } as const
const ROWS = 2

/** An adapter of the reference model. */
export interface LoadedAdapter extends MatchedAdapter {
  readonly source: Adapter
  /** ΔW `[5, 6]` at scale 1; training changes it. */
  delta: Float64Array
  /** A number that is added to all coefficients; training changes it. */
  shift: number
  readonly head: Float64Array | undefined
}

export interface Weights {
  readonly layer: Float64Array
  readonly head: Float64Array
}

/** A session serves the adapters that it was opened for, until it is closed. */
export interface Session {
  readonly serves: ReadonlySet<string>
  calls: number
  isOpen: boolean
}

/** Waits for some turns of the event loop, as opening a session does. */
export async function waitSomeTicks(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setTimeout(resolve, 0))
}

export class ReferenceHost implements AdapterHost<LoadedAdapter, Weights> {
  base: Weights = {
    layer: Float64Array.from(seededValues(1, 30)),
    head: Float64Array.from(seededValues(2, 20)),
  }
  session: Session = { serves: new Set(), calls: 0, isOpen: true }

  match(_name: string, adapter: Adapter): LoadedAdapter {
    for (const module of adapter.modules.keys())
      if (module !== LAYER.module)
        throw new FourierFTError('MODULE_NOT_FOUND', `the model has no layer '${module}'; it has linear`, {
          module,
        })
    const hasHead = [...adapter.savedTensors.keys()].some((tensor) => savedModule(tensor) === HEAD.module)
    const head = hasHead ? Float64Array.from(readSavedModule(adapter, HEAD.module, HEAD).weight) : undefined
    return {
      source: adapter,
      delta: deltaOf(adapter, 0),
      shift: 0,
      head,
      replaces: new Map(head ? [[HEAD.module, HEAD.module]] : []),
    }
  }

  serves({ source }: LoadedAdapter): boolean {
    return this.session.serves.has(keyOf(source))
  }

  async rebuild(adapters: readonly LoadedAdapter[]): Promise<void> {
    const old = this.session
    await waitSomeTicks()
    this.session = { serves: new Set(adapters.map(({ source }) => keyOf(source))), calls: 0, isOpen: true }
    this.release(old)
  }

  /** Closes the session after its last call. */
  release(session: Session): void {
    if (session !== this.session && session.calls === 0) session.isOpen = false
  }

  async merge(added: readonly Applied<LoadedAdapter>[]): Promise<Weights> {
    await waitSomeTicks()
    return this.weightsWith(added)
  }

  weightsWith(added: readonly Applied<LoadedAdapter>[]): Weights {
    const layer = this.base.layer.map((w, i) =>
      added.reduce((sum, { adapter, scale }) => sum + scale * adapter.delta[i], w),
    )
    return { layer, head: added.find(({ adapter }) => adapter.head)?.adapter.head ?? this.base.head }
  }

  discard(_merged: Weights): void {}

  adapterOf({ source, shift }: LoadedAdapter): Adapter {
    return shift === 0 ? source : source.withCoefficients({ [LAYER.module]: shifted(source, shift) })
  }

  /** Computes the output of a call: two matrix products for each row. */
  compute({ choice, merged }: CallState<LoadedAdapter, Weights>, session: Session): Float32Array {
    const rows = Array.from({ length: ROWS }, (_, row) => {
      if (merged) return merged
      const added = 'added' in choice ? choice.added : [choice.perRow[row] ?? []].flat()
      for (const { adapter } of added)
        if (!session.isOpen || !session.serves.has(keyOf(adapter.source)))
          throw new Error('the session is closed, or was not opened for the adapter')
      return this.weightsWith(added)
    })
    return Float32Array.from(
      rows.flatMap(({ layer, head }, row) => [...product(head, product(layer, input(row)))]),
    )
  }
}

/** The adapters of the reference model, with PEFT's methods. */
export class ReferenceAdapters extends AdapterSet<LoadedAdapter, Weights> {
  readonly #host: ReferenceHost

  constructor(host: ReferenceHost) {
    super(host)
    this.#host = host
  }

  async addAdapter(name: string, config: FourierFTOptions): Promise<void> {
    await this.include(name, () => createAdapter(createConfig(config), { [LAYER.module]: LAYER.shape }))
  }

  async call(between: () => unknown = () => undefined, rows?: readonly RowAdapter[]): Promise<Float32Array> {
    const state = this.callState(rows)
    const { session } = this.#host
    session.calls++
    try {
      await between()
      return this.#host.compute(state, session)
    } finally {
      session.calls--
      this.#host.release(session)
    }
  }

  trainSteps(steps: number, after: (step: number) => unknown): Promise<void> {
    return this.train(async (added) => {
      for (let step = 0; step < steps; step++) {
        for (const { adapter } of added) {
          adapter.shift += 0.25
          adapter.delta = deltaOf(adapter.source, adapter.shift)
        }
        await after(step)
      }
    })
  }

  checkWritable(): void {
    if (this.mergedAdapters.length > 0)
      throw new FourierFTError('INVALID_STATE', 'the weights are merged', {
        advice: 'call unmergeAdapter() first',
      })
  }

  async release(): Promise<void> {
    this.finish({ problem: 'the model was released', advice: 'make another one' })
    await this.idle()
  }
}

/** Makes one model that `testAdapters` can test. */
export function referenceSubject(
  host: ReferenceHost,
  adapters: ReferenceAdapters = new ReferenceAdapters(host),
): AdapterSubject {
  return {
    adapters,
    call: () => adapters.call(),
    callDuring: (action) => adapters.call(action),
    callWithRows: (rows) => adapters.call(undefined, rows),
    train: (steps, after) => adapters.trainSteps(steps, after),
    writeWeights() {
      adapters.checkWritable()
      host.base = { ...host.base, layer: host.base.layer.map(() => 0.5) }
    },
    end: () => adapters.release(),
  }
}

/**
 * Returns the reference implementation, in the form that `testAdapters` takes.
 *
 * @param make makes a model: the correct one, or a mutant
 */
export function referenceSubjects(
  make: () => AdapterSubject = () => referenceSubject(new ReferenceHost()),
): AdapterSubjects {
  return { layer: LAYER, head: HEAD, create: async () => make() }
}

function keyOf({ modules }: Adapter): string {
  return JSON.stringify(Array.from(modules.values(), ({ recipe }) => recipe))
}

function shifted(source: Adapter, shift: number): Float32Array {
  const [module] = source.modules.values()
  return Float32Array.from(module?.coefficients ?? [], (c) => c + shift)
}

function deltaOf(source: Adapter, shift: number): Float64Array {
  const layer = source
    .withCoefficients({ [LAYER.module]: shifted(source, shift) })
    .layer(LAYER.module, LAYER.shape)
  return referenceDelta(layer)
}

function input(row: number): Float64Array {
  return Float64Array.from(seededValues(3 + row, 6))
}

/** Returns `W x`, with W `[out, in]` and x `[in]`. */
function product(weight: Float64Array, x: Float64Array): Float64Array {
  return Float64Array.from({ length: weight.length / x.length }, (_, o) =>
    x.reduce((sum, value, i) => sum + weight[o * x.length + i] * value, 0),
  )
}

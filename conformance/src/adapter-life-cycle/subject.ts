/** The interface of a subject, which is an implementation that `testAdapters` tests: a small model with adapters, its calls, and its end. */
import {
  Adapter,
  createAdapter,
  createConfig,
  encodeFloats,
  type FourierFTOptions,
  type RowAdapter,
  type Shape,
  savedTensor,
} from '@fourierft/core'
import { seededValues } from '../seeded-values.js'

/** The methods that every package has. */
export interface AdapterVerbs {
  readonly activeAdapters: readonly string[]
  readonly mergedAdapters: readonly string[]
  readonly enabled: boolean
  listAdapters(): string[]
  loadAdapter(source: Adapter, options: { readonly name: string }): Promise<void>
  addAdapter(name: string, config: FourierFTOptions): void | Promise<void>
  getAdapter(name?: string): Promise<Adapter>
  setAdapter(names: string | readonly string[]): void
  disableAdapters(): void
  enableAdapters(): void
  deleteAdapter(name: string): void
  setScale(name: string, scale: number): void
  mergeAdapter(names?: string | readonly string[]): Promise<void>
  unmergeAdapter(): void
  withAdapterPerRow<T>(names: readonly RowAdapter[], run: () => T): T
}

/** One model under test. */
export interface AdapterSubject {
  readonly adapters: AdapterVerbs
  /** Makes one call, always with the same input of two rows. It starts before the function returns. */
  call(): Promise<Float32Array>
  /**
   * Makes the same call, and runs `action` after the call has started and before it ends: between two steps or, if a call is one step, right
   * after the start.
   */
  callDuring(action: () => unknown): Promise<Float32Array>
  /** Makes the same call with rows as an option. Absent: the package has no such option. */
  callWithRows?(rows: readonly RowAdapter[]): Promise<Float32Array>
  /**
   * Trains the active adapters for some steps. Runs `after` after each, while the adapters are still being trained; if it fails, so does the
   * training. Absent: the package does not train.
   */
  train?(steps: number, after: (step: number) => unknown): Promise<unknown>
  /** Writes 0.5 into every element of the adapted layer's weight, as users can. Absent: users cannot write weights. */
  writeWeights?(): unknown
  /** Ends the model: calls `release`, `dispose` or `detach`. */
  end(): unknown
}

/** The implementation under test: describes the model's layers, and makes subjects. */
export interface AdapterSubjects {
  /** A layer that adapters change: its module name and shape `[out, in]`. */
  readonly layer: { readonly module: string; readonly shape: Shape }
  /** A layer that adapters can replace (`modules_to_save`), with a bias of `shape[0]` numbers if `hasBias`. */
  readonly head: { readonly module: string; readonly shape: Shape; readonly hasBias: boolean }
  /** Whether the rows of one batch can have different heads. Default: true. If not, they must be rejected. */
  readonly hasHeadPerRow?: boolean
  /** The largest difference of outputs that count as equal, relative to the largest number. Default: 1e-4. */
  readonly tolerance?: number
  create(): Promise<AdapterSubject>
}

/** The adapters that the suite loads: `a` and `b` have different entries; `headA` and `headB` also replace the head. */
export interface SuiteAdapters {
  readonly a: Adapter
  readonly b: Adapter
  readonly headA: Adapter
  readonly headB: Adapter
  /** Adapts a module that no model has. */
  readonly misplaced: Adapter
}

/** Large enough that every combination of adapters has a different output. */
const SCALING = 60

/** Makes the adapters for the layers of the implementation. */
export function suiteAdapters({ layer, head }: AdapterSubjects): SuiteAdapters {
  const adapter = (seed: number, module = layer.module, modulesToSave: string[] | null = null) =>
    createAdapter(
      createConfig({
        nFrequency: 6,
        scaling: SCALING,
        randomLocSeed: seed,
        targetModules: [module],
        ...(modulesToSave && { modulesToSave }),
      }),
      { [module]: layer.shape },
      { initialSeed: seed },
    )
  const adapterWithHead = (seed: number) => {
    const { config, modules } = adapter(seed, layer.module, [head.module])
    const tensor = (shape: readonly number[]) => {
      const numbers = seededValues(
        seed,
        shape.reduce((product, size) => product * size),
      )
      return { dtype: 'F32', shape, bytes: encodeFloats(numbers, 'F32') } as const
    }
    const [out] = head.shape
    const savedTensors = new Map([[savedTensor(head.module, 'weight'), tensor(head.shape)]])
    if (head.hasBias) savedTensors.set(savedTensor(head.module, 'bias'), tensor([out]))
    return new Adapter({ config, modules, savedTensors })
  }
  return {
    a: adapter(11),
    b: adapter(12),
    headA: adapterWithHead(13),
    headB: adapterWithHead(14),
    misplaced: adapter(15, 'no.such.module'),
  }
}

/**
 * One layer of a user's model made ready for adapters: it is laid over so that the active adapters' ΔW takes part before the activation.
 * Without an active adapter the model's own code runs, with its own bits.
 */
import { FourierFTError, type Shape } from '@fourierft/core'
import { add, keep, mul, stack, type Tensor, tidy, type Variable } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { LayerSpec } from '../fourier-linear.js'
import type { ApplyOptions, KernelChange, LayerKind } from '../kinds/layer-kind.js'
import { variableOf } from '../layers-internals.js'
import { entriesKey } from '../table-cache.js'
import type { AttachableModule } from './attachable-model.js'

/** One adapter's part in one layer. */
export interface Branch {
  readonly spec: LayerSpec
  /** `c`, `[n]` */
  readonly coefficients: LayerVariable
}

/** The own weights of a `Dense` or `EinsumDense` layer replaced by an adapter's: one of `modules_to_save`. */
export interface ReplacementWeights {
  /** In the shape of the layer's. */
  readonly kernel: LayerVariable
  readonly bias: LayerVariable | null
}

/** What the layers of one attached model have in common. */
export interface ApplySettings extends ApplyOptions {
  /** For each row of the batch the index of its adapter among the active ones, −1 for none. Undefined: all are added. */
  rows: Int32Array | undefined
}

/** An active adapter's part in this layer; either may be absent. */
export interface LayerPart {
  readonly branch?: Branch | undefined
  readonly whole?: ReplacementWeights | undefined
}

/** A branch, and how strongly it is applied. */
interface ScaledBranch extends Branch {
  readonly scale: number
}

export class AdaptedLayer {
  readonly module: string
  readonly kind: LayerKind
  readonly #settings: ApplySettings
  readonly #kernel: Variable
  readonly #restore: () => void
  #active: readonly (LayerPart & { readonly scale: number })[] = []
  #original: Tensor | undefined
  /** What the kernel holds while merged, unless the user writes to it. */
  #mergedData: object | undefined

  constructor({ name, intercept }: AttachableModule, kind: LayerKind, settings: ApplySettings) {
    this.module = name
    this.kind = kind
    this.#settings = settings
    this.#kernel = variableOf(kind.kernel)
    this.#restore = intercept(
      (x) => tidy(() => this.#apply(x)),
      () => this.#idle,
    )
  }

  /** `[out, in]` */
  get shape(): Shape {
    return this.kind.shape
  }

  /** The parts of the active adapters, in their order; an adapter without a part in this layer has an empty one. */
  setActive(parts: readonly (LayerPart & { readonly scale: number })[]): void {
    this.#active = parts
  }

  get merged(): boolean {
    return this.#original !== undefined
  }

  /** The model's own kernel, while another is merged too. */
  get baseKernel(): Tensor {
    return this.#original && this.#kernel.dataId === this.#mergedData ? this.#original : this.#kernel
  }

  /** Whether the model was disposed of. */
  get isDisposed(): boolean {
    return this.#kernel.isDisposed
  }

  /** Sets the kernel to `kernel` (which this layer then owns), keeping the original for `unmerge`. */
  merge(kernel: Tensor): void {
    this.#original ??= keep(this.#kernel.clone())
    this.#kernel.assign(kernel)
    this.#mergedData = this.#kernel.dataId
    kernel.dispose()
  }

  /** Gives the kernel its original bits back. What the user has assigned to the variable since the merge stays. */
  unmerge(): void {
    if (this.#original === undefined) return
    // The user may have disposed the model already.
    if (!this.#kernel.isDisposed && this.#kernel.dataId === this.#mergedData)
      this.#kernel.assign(this.#original)
    this.#forgetOriginal()
  }

  /** Leaves the layer as it was found, but for a merged kernel if that is to stay. */
  detach({ keepMerged }: { keepMerged: boolean }): void {
    if (keepMerged) this.#forgetOriginal()
    else this.unmerge()
    this.#restore()
  }

  #forgetOriginal(): void {
    this.#original?.dispose()
    this.#original = undefined
  }

  get #idle(): boolean {
    return this.#active.every(({ branch, whole }) => !whole && (!branch || this.merged))
  }

  #apply(x: Tensor): Tensor {
    const whole = this.#active.find((part) => part.whole)?.whole
    const { kernel, bias } = whole ?? this.kind
    const weights = { kernel: kernel.read(), bias: bias?.read(), isFrozen: whole === undefined }
    return this.kind.apply(x, weights, this.merged ? [] : this.#changes(x), this.#settings)
  }

  /** ΔW of the active adapters, one for each set of entries. */
  #changes(x: Tensor): KernelChange[] {
    const { rows } = this.#settings
    if (rows) this.#checkRows(rows, x)
    const byEntries = new Map<string, { branches: ScaledBranch[]; adapters: number[] }>()
    this.#active.forEach(({ branch, scale }, adapter) => {
      if (!branch) return
      const key = entriesKey(branch.spec.entries)
      const group = byEntries.get(key) ?? { branches: [], adapters: [] }
      group.branches.push({ ...branch, scale })
      group.adapters.push(adapter)
      byEntries.set(key, group)
    })
    return Array.from(byEntries.values(), ({ branches, adapters }) => ({
      ...(rows ? sideBySide(branches) : summed(branches)),
      rows: rows?.map((adapter) => adapters.indexOf(adapter)),
    }))
  }

  #checkRows(rows: Int32Array, x: Tensor): void {
    if (x.shape[0] === rows.length) return
    const { module } = this
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `layer '${module}': its batch has ${x.shape[0]} rows, adapters were named for ${rows.length}; ` +
        'name one for each row, and predict them in one batch: model.predict(x, { batchSize })',
      { module, expected: rows.length, received: x.shape[0] },
    )
  }
}

/** Several adapters of the same entries as one: `Σ α·c`. One alone keeps its scaling, which costs nothing there. */
function summed(branches: readonly ScaledBranch[]): Pick<KernelChange, 'spec' | 'coefficients'> {
  const [first, ...more] = branches as readonly [ScaledBranch, ...ScaledBranch[]]
  if (more.length === 0) return { spec: scaledSpec(first), coefficients: first.coefficients.read() }
  return {
    spec: { ...first.spec, scaling: 1 },
    coefficients: branches.map(scaled).reduce((a, b) => add(a, b)),
  }
}

/** Adapters of the same entries, one in each row. */
function sideBySide(branches: readonly ScaledBranch[]): Pick<KernelChange, 'spec' | 'coefficients'> {
  const [{ spec }] = branches as readonly [ScaledBranch, ...ScaledBranch[]]
  return { spec: { ...spec, scaling: 1 }, coefficients: stack(branches.map(scaled)) }
}

function scaledSpec({ spec, scale }: ScaledBranch): LayerSpec {
  return scale === 1 ? spec : { ...spec, scaling: spec.scaling * scale }
}

function scaled(branch: ScaledBranch): Tensor {
  return mul(branch.coefficients.read(), scaledSpec(branch).scaling)
}

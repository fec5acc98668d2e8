/**
 * One layer of a user's model with adapters. It intercepts the layer's call and adds ΔW of the active adapters before the activation.
 * Without an active adapter the original code runs, so the output is the same bit for bit.
 */
import { FourierFTError, type Shape } from '@fourierft/core'
import { add, keep, mul, stack, type Tensor, tidy, type Variable } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { LayerSpec } from '../fourier-linear.js'
import type { ApplyOptions, KernelDelta, LayerKind } from '../kinds/layer-kind.js'
import { variableOf } from '../layers-internals.js'
import { entriesKey } from '../table-cache.js'
import type { AttachableModule } from './attachable-model.js'

/** The part that one adapter adds to one layer's output: `y += ΔW x`. */
export interface Branch {
  readonly spec: LayerSpec
  /** `c`, `[n]` */
  readonly coefficients: LayerVariable
}

/** The weights of an adapter that replace those of a `Dense` or `EinsumDense` layer: one of `modules_to_save`. */
export interface ReplacementWeights {
  /** In the shape of the layer's kernel. */
  readonly kernel: LayerVariable
  readonly bias: LayerVariable | null
}

/** The settings that all layers of one attached model share. */
export interface ApplySettings extends ApplyOptions {
  /** For each row of the batch the index of its adapter among the active ones; −1 means no adapter. Undefined: all are added. */
  rows: Int32Array | undefined
}

/** The part of an adapter that concerns one layer. */
export interface LayerPart {
  readonly branch?: Branch | undefined
  readonly replacement?: ReplacementWeights | undefined
}

/** The part of an active adapter, and the adapter's scale. */
type ActivePart = LayerPart & { readonly scale: number }

export class AdaptedLayer {
  readonly module: string
  readonly kind: LayerKind
  readonly #settings: ApplySettings
  readonly #kernel: Variable
  readonly #restore: () => void
  #active: readonly ActivePart[] = []
  #original: Tensor | undefined
  /** The data of the merged kernel. If the user writes to the kernel after the merge, it has other data. */
  #mergedData: object | undefined

  constructor({ name, intercept }: AttachableModule, kind: LayerKind, settings: ApplySettings) {
    this.module = name
    this.kind = kind
    this.#settings = settings
    this.#kernel = variableOf(kind.kernel)
    this.#restore = intercept(
      (x) => tidy(() => this.#apply(x)),
      () => this.#isIdle,
    )
  }

  /** `[out, in]` */
  get shape(): Shape {
    return this.kind.shape
  }

  /** Sets the active adapters, in their order. Adapters that do not concern this layer have an empty part. */
  setActive(parts: readonly ActivePart[]): void {
    this.#active = parts
  }

  get isMerged(): boolean {
    return this.#original !== undefined
  }

  /** The kernel of the base model, also while adapters are merged. */
  get baseKernel(): Tensor {
    return this.#original && this.#kernel.dataId === this.#mergedData ? this.#original : this.#kernel
  }

  /** Whether the user has disposed of the model. */
  get isDisposed(): boolean {
    return this.#kernel.isDisposed
  }

  /** Takes over the data of `kernel`, disposes of it, and keeps the original for `unmerge`. */
  merge(kernel: Tensor): void {
    this.#original ??= keep(this.#kernel.clone())
    this.#kernel.assign(kernel)
    this.#mergedData = this.#kernel.dataId
    kernel.dispose()
  }

  /** Restores the original kernel, bit for bit, unless the user has assigned to the variable after the merge. */
  unmerge(): void {
    if (this.#original === undefined) return
    // The user may have disposed of the model already.
    if (!this.#kernel.isDisposed && this.#kernel.dataId === this.#mergedData)
      this.#kernel.assign(this.#original)
    this.#forgetOriginal()
  }

  /** Restores the layer. With `keepMerged` a merged kernel stays. */
  detach({ keepMerged }: { keepMerged: boolean }): void {
    if (keepMerged) this.#forgetOriginal()
    else this.unmerge()
    this.#restore()
  }

  #forgetOriginal(): void {
    this.#original?.dispose()
    this.#original = undefined
  }

  get #isIdle(): boolean {
    return this.#active.every(({ branch, replacement }) => !replacement && (!branch || this.isMerged))
  }

  #apply(x: Tensor): Tensor {
    const replacement = this.#active.find((part) => part.replacement)?.replacement
    const { kernel, bias } = replacement ?? this.kind
    const weights = { kernel: kernel.read(), bias: bias?.read(), isFrozen: replacement === undefined }
    return this.kind.apply(x, weights, this.isMerged ? [] : this.#deltas(x), this.#settings)
  }

  /** Returns ΔW of the active adapters, one for each set of entries. */
  #deltas(x: Tensor): KernelDelta[] {
    const { rows } = this.#settings
    if (rows) this.#checkRows(rows, x)
    const byEntries = new Map<string, { branches: Branch[]; adapters: number[] }>()
    this.#active.forEach(({ branch, scale }, adapter) => {
      if (!branch) return
      const key = entriesKey(branch.spec.entries)
      const group = byEntries.get(key) ?? { branches: [], adapters: [] }
      group.branches.push(scaleBranch(branch, scale))
      group.adapters.push(adapter)
      byEntries.set(key, group)
    })
    return Array.from(byEntries.values(), ({ branches, adapters }) => ({
      ...(rows ? stackBranches(branches) : sumBranches(branches)),
      rows: rows?.map((adapter) => adapters.indexOf(adapter)),
    }))
  }

  #checkRows(rows: Int32Array, x: Tensor): void {
    if (x.shape[0] === rows.length) return
    const { module } = this
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `layer '${module}': expected a batch of ${rows.length} rows, one for each adapter name; received ${x.shape[0]} rows`,
      {
        advice:
          'name one adapter for each row, and predict all rows in one batch: model.predict(x, { batchSize })',
        module,
        expected: rows.length,
        received: x.shape[0],
      },
    )
  }
}

/** Adds adapters with the same entries: `Σ α·c`. A single adapter keeps its scaling, which saves a product. */
function sumBranches(branches: readonly Branch[]): Pick<KernelDelta, 'spec' | 'coefficients'> {
  const [first, ...others] = branches as readonly [Branch, ...Branch[]]
  if (others.length === 0) return { spec: first.spec, coefficients: first.coefficients.read() }
  return {
    spec: { ...first.spec, scaling: 1 },
    coefficients: branches.map(scaleCoefficients).reduce((a, b) => add(a, b)),
  }
}

/** Stacks the coefficients of adapters with the same entries: `[A, n]`. */
function stackBranches(branches: readonly Branch[]): Pick<KernelDelta, 'spec' | 'coefficients'> {
  const [{ spec }] = branches as readonly [Branch, ...Branch[]]
  return { spec: { ...spec, scaling: 1 }, coefficients: stack(branches.map(scaleCoefficients)) }
}

function scaleBranch({ spec, coefficients }: Branch, scale: number): Branch {
  return { spec: scale === 1 ? spec : { ...spec, scaling: spec.scaling * scale }, coefficients }
}

function scaleCoefficients({ spec, coefficients }: Branch): Tensor {
  return mul(coefficients.read(), spec.scaling)
}

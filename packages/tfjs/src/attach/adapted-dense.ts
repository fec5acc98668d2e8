/**
 * One `Dense` layer of a user's model made ready for adapters: its `call` is laid over so that `x · kernel + bias` gets the active
 * adapters' Δy before the activation. Without an active adapter the layer's own `call` runs, with its own bits.
 */
import { FourierFTError, type Shape } from '@fourierft/core'
import {
  add,
  cast,
  keep,
  mul,
  reshape,
  stack,
  type Tensor,
  type Tensor2D,
  tidy,
  type Variable,
} from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import { fourierLinear, type LayerSpec } from '../fourier-linear.js'
import { frozenProduct, product } from '../products.js'
import type { TfjsStrategy } from '../strategies/choose-strategy.js'
import { entriesKey, type TableCache } from '../table-cache.js'
import { type AnyLayer, type DenseParts, variableOf } from './layers-internals.js'
import { override } from './override.js'

/** One adapter's part in one layer. */
export interface DenseBranch {
  readonly spec: LayerSpec
  /** `c`, `[n]` */
  readonly coefficients: LayerVariable
}

/** A layer's own weights replaced by an adapter's: one of `modules_to_save`. */
export interface WholeWeights {
  /** `[in, out]` */
  readonly kernel: LayerVariable
  readonly bias: LayerVariable | null
}

/** What the layers of one attached model have in common. */
export interface ApplySettings {
  readonly strategy: TfjsStrategy | 'auto'
  readonly tables: TableCache
  /** For each row of the batch the index of its adapter among the active ones, −1 for none. Undefined: all are added. */
  rows: Int32Array | undefined
}

/** An active adapter's part in this layer; either may be absent. */
export interface ActivePart {
  readonly branch?: DenseBranch | undefined
  readonly whole?: WholeWeights | undefined
}

export class AdaptedDense {
  readonly module: string
  readonly parts: DenseParts
  /** `[out, in]` */
  readonly shape: Shape
  readonly #settings: ApplySettings
  readonly #kernel: Variable
  readonly #restoreCall: () => void
  #active: readonly ActivePart[] = []
  #original: Tensor | undefined

  constructor(module: string, layer: AnyLayer, parts: DenseParts, settings: ApplySettings) {
    const [inputs, outputs] = parts.kernel.shape as [number, number]
    this.module = module
    this.parts = parts
    this.shape = [outputs, inputs]
    this.#settings = settings
    this.#kernel = variableOf(parts.kernel)
    const call = layer.call.bind(layer)
    this.#restoreCall = override(layer, 'call', (inputs, kwargs) =>
      this.#idle
        ? call(inputs, kwargs)
        : tidy(() => this.#apply(Array.isArray(inputs) ? (inputs[0] as Tensor) : inputs)),
    )
  }

  /** The parts of the active adapters, in their order; an adapter without a part in this layer has an empty one. */
  setActive(parts: readonly ActivePart[]): void {
    this.#active = parts
  }

  get merged(): boolean {
    return this.#original !== undefined
  }

  /** Sets the kernel to `kernel` (which this layer then owns), keeping the original for `unmerge`. */
  merge(kernel: Tensor): void {
    this.#original ??= keep(this.#kernel.clone())
    this.#kernel.assign(kernel)
    kernel.dispose()
  }

  /** Gives the kernel its original bits back. */
  unmerge(): void {
    if (this.#original === undefined) return
    // The user may have disposed the model already.
    if (!this.#kernel.isDisposed) this.#kernel.assign(this.#original)
    this.#forgetOriginal()
  }

  /** Leaves the layer as it was found, but for a merged kernel if that is to stay. */
  detach({ keepMerged }: { keepMerged: boolean }): void {
    if (keepMerged) this.#forgetOriginal()
    else this.unmerge()
    this.#restoreCall()
  }

  #forgetOriginal(): void {
    this.#original?.dispose()
    this.#original = undefined
  }

  get #idle(): boolean {
    return this.#active.every(({ branch, whole }) => !whole && (!branch || this.merged))
  }

  #apply(given: Tensor): Tensor {
    const [outputs, inputs] = this.shape
    const x = cast(given, 'float32')
    const { activation } = this.parts
    const whole = this.#active.find((part) => part.whole)?.whole
    const flat = reshape(x, [-1, inputs])
    const bias = whole ? whole.bias : this.parts.bias
    let y = whole ? product(flat, whole.kernel.read()) : frozenProduct(flat, this.parts.kernel.read())
    if (bias) y = add(y, bias.read())
    if (!this.merged) y = this.#withChanges(y, x)
    return activation.apply(reshape(y, [...x.shape.slice(0, -1), outputs]))
  }

  /** `y + Σ Δy` for `y` `[T, d1]`, with one branch for each set of entries. */
  #withChanges(y: Tensor2D, x: Tensor): Tensor2D {
    const { strategy, tables, rows } = this.#settings
    const tokens = y.shape[0]
    const byEntries = new Map<string, { spec: LayerSpec; coefficients: Tensor[]; adapters: number[] }>()
    this.#active.forEach(({ branch }, adapter) => {
      if (!branch) return
      const { spec, coefficients } = branch
      const key = entriesKey(spec.entries)
      const group = byEntries.get(key) ?? { spec: { ...spec, scaling: 1 }, coefficients: [], adapters: [] }
      group.coefficients.push(mul(coefficients.read(), spec.scaling))
      group.adapters.push(adapter)
      byEntries.set(key, group)
    })
    let base = y
    for (const { spec, coefficients, adapters } of byEntries.values()) {
      const flat = reshape(x, [tokens, spec.shape[1]])
      const own = rows && spreadRows(rows, x, tokens, this.module).map((adapter) => adapters.indexOf(adapter))
      const c = own ? stack(coefficients) : coefficients.reduce((a, b) => add(a, b))
      base = fourierLinear(flat, c, spec, { strategy, tables, base, rows: own }) as Tensor2D
    }
    return base
  }
}

/** From one index for each row of the batch to one for each token. */
function spreadRows(rows: Int32Array, x: Tensor, tokens: number, module: string): Int32Array {
  if (x.shape[0] !== rows.length) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `layer '${module}': its batch has ${x.shape[0]} rows, adapters were named for ${rows.length}; ` +
        'name one for each row, and predict them in one batch: model.predict(x, { batchSize })',
      { module, expected: rows.length, received: x.shape[0] },
    )
  }
  const each = tokens / rows.length
  return Int32Array.from({ length: tokens }, (_, t) => rows[Math.floor(t / each)] as number)
}

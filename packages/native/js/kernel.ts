/**
 * The kernel over typed arrays: what `addForward`, `addBackward` and `delta` of `@fourierft/core` compute, in SIMD on all cores and off
 * the main thread. Layers are described by their shape: this package knows no other of the project.
 *
 * A call computes on copies of its arrays, made when it begins and written back at its end, so nobody can take memory away from it. Arrays in
 * a SharedArrayBuffer, which can neither be detached nor shrink, are used in place, without copies.
 */
import { type Activations, type Addon, loadAddon, settled } from './addon.js'

/** What the kernel needs to know of one adapted layer; every `Layer` of `@fourierft/core` is one. */
export interface KernelLayer {
  /** `[d1, d2]` = `[out, in]`. */
  readonly shape: readonly [d1: number, d2: number]
  /** Distinct places in `[0, d1) × [0, d2)`; one plan is made for each object and kept as long as it lives. */
  readonly entries: { readonly n: number; readonly rows: Uint32Array; readonly columns: Uint32Array }
  readonly coefficients: ArrayLike<number>
  readonly scaling: number
}

/** How 16-bit activations are read; Float32Array activations need no word. */
export type HalfType = 'float16' | 'bfloat16'

export interface KernelOptions {
  /** For each token the index of its one layer in `layers`, or −1 for none. Default: all layers, added. */
  readonly rows?: Int32Array
  /** What the bits of Uint16Array activations mean. */
  readonly halfType?: HalfType
}

export interface KernelGradients {
  /** `∂L/∂c`, one array `[n]` for each layer; added to. */
  readonly coefficients: readonly (Float32Array | Float64Array)[]
  /** `∂L/∂x` `[T, d2]`; added to. Absent: not computed. */
  readonly x?: Activations
}

export interface Kernel {
  /** The instructions that serve on this processor: `avx512`, `avx2`, `neon` or `generic`. */
  readonly instructions: string
  /**
   * `y += Σ Δy` for `x` `[T, d2]` and `y` `[T, d1]`.
   *
   * @throws {Error} with the code `SHAPE_MISMATCH`, `UNSUPPORTED_DTYPE` or `INVALID_OPTION` before anything is computed; with `INVALID_STATE`
   *   where the buffer of `y` was transferred or became too short during the call; with `UNSUPPORTED` where memory is not enough
   */
  addForward(
    layers: readonly KernelLayer[],
    x: Activations,
    y: Activations,
    options?: KernelOptions,
  ): Promise<void>
  /**
   * Adds the gradients for `gradY` `[T, d1]` at `x` `[T, d2]`.
   *
   * @throws {Error} as `addForward`
   */
  addBackward(
    layers: readonly KernelLayer[],
    x: Activations,
    gradY: Activations,
    gradients: KernelGradients,
    options?: KernelOptions,
  ): Promise<void>
  /** ΔW of the layer, row-major `[d1, d2]`. */
  delta(layer: KernelLayer): Promise<Float32Array>
  /**
   * The number under which the kernel, and its TensorFlow operators' attribute `plan`, know the layer's entries. Their tables are made by the
   * first call that computes with them; TensorFlow.js's binding runs its operators on JavaScript's thread, and there makes them too.
   */
  planOf(layer: Pick<KernelLayer, 'shape' | 'entries'>): number
  /** Registers the operators `FourierFT` and `FourierFTGrad` in the TensorFlow that this process has loaded (its framework library's path). */
  registerTensorFlow(library: string): void
}

let loaded: ReturnType<typeof loadKernel> | undefined

/** The kernel, or undefined where none is compiled for this machine (`kernelProblem` says why). */
export function kernel(): Kernel | undefined {
  loaded ??= loadKernel()
  return 'kernel' in loaded ? loaded.kernel : undefined
}

/** Why there is no kernel, in one line; undefined where there is one. */
export function kernelProblem(): string | undefined {
  loaded ??= loadKernel()
  return 'problem' in loaded ? loaded.problem : undefined
}

function loadKernel(): { readonly kernel: Kernel } | { readonly problem: string } {
  const found = loadAddon()
  return 'addon' in found ? { kernel: makeKernel(found.addon) } : found
}

function makeKernel(addon: Addon): Kernel {
  const plans = new WeakMap<KernelLayer['entries'], number>()
  const disposed = new FinalizationRegistry<number>((plan) => addon.destroyPlan(plan))

  function planOf({ shape, entries }: Pick<KernelLayer, 'shape' | 'entries'>): number {
    const known = plans.get(entries)
    if (known !== undefined) return known
    const plan = addon.createPlan(shape[0], shape[1], entries.rows, entries.columns)
    plans.set(entries, plan)
    disposed.register(entries, plan)
    return plan
  }

  /** What a call of the addon takes of a group, read when the user's call begins. */
  function prepared({ layers, indices, rows }: Group) {
    const first = layers[0]
    return { ...packed(layers), plan: planOf(first), n: first.entries.n, indices, rows }
  }

  return {
    instructions: addon.instructions(),

    async addForward(layers, x, y, options = {}) {
      const dtype = dtypeOf(x, options.halfType)
      for (const { plan, coefficients, scalings, rows } of groupsOf(layers, options.rows).map(prepared)) {
        await settled<undefined>((done) =>
          addon.forward(plan, coefficients, scalings, dtype, x, rows, y, done),
        )
      }
    },

    async addBackward(layers, x, gradY, gradients, options = {}) {
      if (gradients.coefficients.length !== layers.length) {
        throw mismatch(
          `coefficients: expected one array for each of ${layers.length} layers; received ${gradients.coefficients.length}`,
        )
      }
      layers.forEach((layer, index) => {
        checkGradient(gradients.coefficients[index], layer, index)
      })
      const dtype = dtypeOf(x, options.halfType)
      const gradX = gradients.x ?? null
      for (const group of groupsOf(layers, options.rows).map(prepared)) {
        const { plan, coefficients, scalings, rows, indices, n } = group
        const found = new Float32Array(
          await settled<ArrayBuffer>((done) =>
            addon.backward(plan, coefficients, scalings, dtype, x, gradY, rows, gradX, done),
          ),
        )
        indices.forEach((index, place) => {
          const into = checkGradient(gradients.coefficients[index], layers[index], index)
          for (let l = 0; l < n; l++) into[l] = into[l] + found[place * n + l]
        })
      }
    },

    async delta(layer) {
      const { coefficients, scalings } = packed([layer])
      const plan = planOf(layer)
      return new Float32Array(
        await settled<ArrayBuffer>((done) => addon.delta(plan, coefficients, scalings, done)),
      )
    },

    planOf,

    registerTensorFlow: (library) => addon.registerTensorFlow(library),
  }
}

interface Group {
  readonly layers: KernelLayer[]
  /** Their places among all layers. */
  readonly indices: number[]
  /** For each token the place of its layer in this group, or −1; null where all are added. */
  readonly rows: Int32Array | null
}

/** Layers that share their entries go through the kernel together and share the transforms of the activations. */
function groupsOf(layers: readonly KernelLayer[], rows: Int32Array | undefined): Group[] {
  const byEntries = new Map<KernelLayer['entries'], Omit<Group, 'rows'>>()
  layers.forEach((layer, index) => {
    const group = byEntries.get(layer.entries) ?? { layers: [], indices: [] }
    group.layers.push(layer)
    group.indices.push(index)
    byEntries.set(layer.entries, group)
  })
  const groups = [...byEntries.values()]
  if (rows === undefined) return groups.map((group) => ({ ...group, rows: null }))
  const unknown = rows.findIndex((row) => row < -1 || row >= layers.length)
  if (unknown >= 0) {
    throw new RangeError(`rows[${unknown}]: expected −1 … ${layers.length - 1}; received ${rows[unknown]}`)
  }
  if (groups.length === 1) return groups.map((group) => ({ ...group, rows }))
  return groups.map((group) => ({ ...group, rows: rows.map((row) => group.indices.indexOf(row)) }))
}

function packed(layers: readonly KernelLayer[]): { coefficients: Float32Array; scalings: Float32Array } {
  const n = layers[0]?.entries.n ?? 0
  const coefficients = new Float32Array(layers.length * n)
  layers.forEach((layer, index) => {
    if (layer.coefficients.length !== n) {
      throw mismatch(`coefficients: expected ${n} for as many entries; received ${layer.coefficients.length}`)
    }
    coefficients.set(layer.coefficients, index * n)
  })
  return { coefficients, scalings: Float32Array.from(layers, ({ scaling }) => scaling) }
}

/** The array, if it holds a number for each entry of the layer; one whose buffer was transferred holds none. */
function checkGradient(
  array: Float32Array | Float64Array | undefined,
  { entries: { n } }: KernelLayer,
  index: number,
): Float32Array | Float64Array {
  if (array?.length === n) return array
  throw mismatch(`gradients.coefficients[${index}]: expected ${n} numbers; received ${array?.length ?? 0}`)
}

function mismatch(message: string): RangeError {
  return Object.assign(new RangeError(message), { code: 'SHAPE_MISMATCH' })
}

function dtypeOf(x: Activations, halfType: HalfType | undefined): number {
  if (x instanceof Float32Array) return 0
  if (halfType === undefined) {
    throw new TypeError("halfType: Uint16Array activations need 'float16' or 'bfloat16'")
  }
  return halfType === 'float16' ? 1 : 2
}

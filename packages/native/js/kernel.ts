/**
 * The kernel for typed arrays. It computes `addForward`, `addBackward` and `delta` of `@fourierft/core`, in SIMD, on all cores and off the
 * main thread. This package imports no other package of the project, so a layer is described by plain properties.
 *
 * A call copies its arrays at its start, computes on the copies and writes them back at its end, so JavaScript can change or free its own memory
 * during the call. Arrays in a SharedArrayBuffer, which can neither be detached nor shrink, are used in place, without copies.
 */
import { type Activations, type Addon, loadAddon, promiseOf } from './addon.js'
import { invalidOption, messageOf, shapeMismatch, unsupportedDtype } from './native-error.js'

/** An adapted layer; every `Layer` of `@fourierft/core` is one. */
export interface KernelLayer {
  /** `[d1, d2]` = `[out, in]`. */
  readonly shape: readonly [d1: number, d2: number]
  /** Distinct positions in `[0, d1) × [0, d2)`. The kernel makes one plan for each such object and keeps it as long as the object lives. */
  readonly entries: { readonly n: number; readonly rows: Uint32Array; readonly columns: Uint32Array }
  readonly coefficients: ArrayLike<number>
  readonly scaling: number
}

/** The format of 16-bit activations. */
export type HalfType = 'float16' | 'bfloat16'

export interface KernelOptions {
  /** For each token the index of its layer in `layers`, or −1 for none. Default: the changes of all layers are summed. */
  readonly rows?: Int32Array
  /** The format of Uint16Array activations; Float32Array activations do not need it. */
  readonly halfType?: HalfType
}

export interface KernelGradients {
  /** One array `[n]` for each layer, to which `∂L/∂c` is added. */
  readonly coefficients: readonly (Float32Array | Float64Array)[]
  /** The array `[T, d2]` to which `∂L/∂x` is added. Not computed if absent. */
  readonly x?: Activations
}

export interface Kernel {
  /** The instructions in use on this processor: `avx512`, `avx2`, `neon` or `generic`. */
  readonly instructions: string
  /**
   * Computes `y += Σ Δy` for `x` `[T, d2]` and `y` `[T, d1]`.
   *
   * @throws {Error} with the code `SHAPE_MISMATCH`, `UNSUPPORTED_DTYPE` or `INVALID_OPTION` before anything is computed; with `INVALID_STATE`
   *   if the buffer of `y` was transferred or became too short during the call; with `UNSUPPORTED` if there is not enough memory
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
  /** Computes ΔW of the layer, row-major `[d1, d2]`. */
  delta(layer: KernelLayer): Promise<Float32Array>
  /**
   * Returns the id of the plan for the layer's entries: the value of the attribute `plan` of the TensorFlow operators. The first call that
   * computes with a plan makes its tables. In TensorFlow.js, that call blocks JavaScript's thread, because its binding runs operators there.
   */
  planOf(layer: Pick<KernelLayer, 'shape' | 'entries'>): number
  /**
   * Registers the operators `FourierFT` and `FourierFTGrad` in TensorFlow.
   *
   * @param library the path of the framework library that this process has loaded
   */
  registerTensorFlow(library: string): void
}

let loaded: ReturnType<typeof loadKernel> | undefined

/** Returns the kernel, or undefined if none is compiled for this machine (`kernelProblem` returns the reason). */
export function kernel(): Kernel | undefined {
  loaded ??= loadKernel()
  return 'kernel' in loaded ? loaded.kernel : undefined
}

/** Returns one line with the reason why there is no kernel; undefined if there is one. */
export function kernelProblem(): string | undefined {
  loaded ??= loadKernel()
  return 'problem' in loaded ? loaded.problem : undefined
}

function loadKernel(): { readonly kernel: Kernel } | { readonly problem: string } {
  const result = loadAddon()
  if ('addon' in result) return { kernel: makeKernel(result.addon) }
  return { problem: messageOf(result.problem, result.advice) }
}

function makeKernel(addon: Addon): Kernel {
  const plans = new WeakMap<KernelLayer['entries'], number>()
  const unusedPlans = new FinalizationRegistry<number>((plan) => addon.destroyPlan(plan))

  function planOf({ shape, entries }: Pick<KernelLayer, 'shape' | 'entries'>): number {
    const existing = plans.get(entries)
    if (existing !== undefined) return existing
    const plan = addon.createPlan(shape[0], shape[1], entries.rows, entries.columns)
    plans.set(entries, plan)
    unusedPlans.register(entries, plan)
    return plan
  }

  /** Reads the addon's arguments for a group, when the user's call begins. */
  function readArguments({ layers, indices, rows }: Group) {
    const first = layers[0]
    return { ...stackLayers(layers), plan: planOf(first), n: first.entries.n, indices, rows }
  }

  return {
    instructions: addon.instructions(),

    async addForward(layers, x, y, options = {}) {
      const dtype = dtypeOf(x, options.halfType)
      for (const { plan, coefficients, scalings, rows } of groupsOf(layers, options.rows).map(
        readArguments,
      )) {
        await promiseOf<undefined>((done) =>
          addon.forward(plan, coefficients, scalings, dtype, x, rows, y, done),
        )
      }
    },

    async addBackward(layers, x, gradY, gradients, options = {}) {
      if (gradients.coefficients.length !== layers.length) {
        throw shapeMismatch(
          `coefficients: expected one array for each of ${layers.length} layers; received ${gradients.coefficients.length}`,
        )
      }
      layers.forEach((layer, index) => {
        checkGradient(gradients.coefficients[index], layer, index)
      })
      const dtype = dtypeOf(x, options.halfType)
      const gradX = gradients.x ?? null
      for (const group of groupsOf(layers, options.rows).map(readArguments)) {
        const { plan, coefficients, scalings, rows, indices, n } = group
        const gradient = new Float32Array(
          await promiseOf<ArrayBuffer>((done) =>
            addon.backward(plan, coefficients, scalings, dtype, x, gradY, rows, gradX, done),
          ),
        )
        indices.forEach((index, indexInGroup) => {
          const sum = checkGradient(gradients.coefficients[index], layers[index], index)
          for (let l = 0; l < n; l++) sum[l] = sum[l] + gradient[indexInGroup * n + l]
        })
      }
    },

    async delta(layer) {
      const { coefficients, scalings } = stackLayers([layer])
      const plan = planOf(layer)
      return new Float32Array(
        await promiseOf<ArrayBuffer>((done) => addon.delta(plan, coefficients, scalings, done)),
      )
    },

    planOf,

    registerTensorFlow: (library) => addon.registerTensorFlow(library),
  }
}

interface Group {
  readonly layers: KernelLayer[]
  /** The index of each layer among all layers of the call. */
  readonly indices: number[]
  /** For each token the index of its layer in this group, or −1; null if all layers are summed. */
  readonly rows: Int32Array | null
}

/** Groups the layers by their entries: the layers of a group go through the kernel together and share the transforms of the activations. */
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
    throw invalidOption(`rows[${unknown}]: expected −1 … ${layers.length - 1}; received ${rows[unknown]}`)
  }
  if (groups.length === 1) return groups.map((group) => ({ ...group, rows }))
  return groups.map((group) => ({ ...group, rows: rows.map((row) => group.indices.indexOf(row)) }))
}

/** Copies the coefficients of layers with the same entries to one array, and their scalings to another. */
function stackLayers(layers: readonly KernelLayer[]): { coefficients: Float32Array; scalings: Float32Array } {
  const n = layers[0]?.entries.n ?? 0
  const coefficients = new Float32Array(layers.length * n)
  layers.forEach((layer, index) => {
    if (layer.coefficients.length !== n) {
      throw shapeMismatch(
        `coefficients: expected ${n} numbers, one for each entry; received ${layer.coefficients.length}`,
      )
    }
    coefficients.set(layer.coefficients, index * n)
  })
  return { coefficients, scalings: Float32Array.from(layers, ({ scaling }) => scaling) }
}

/** Checks that the array has a number for each entry of the layer. The length of an array whose buffer was transferred is 0. */
function checkGradient(
  array: Float32Array | Float64Array | undefined,
  { entries: { n } }: KernelLayer,
  index: number,
): Float32Array | Float64Array {
  if (array?.length === n) return array
  throw shapeMismatch(
    `gradients.coefficients[${index}]: expected ${n} numbers; received ${array?.length ?? 0}`,
  )
}

/** The values of `fourierft_dtype` in the C header. */
const DTYPES = { float32: 0, float16: 1, bfloat16: 2 } as const

function dtypeOf(x: Activations, halfType: HalfType | undefined): number {
  if (x instanceof Float32Array) return DTYPES.float32
  if (halfType === undefined) {
    throw unsupportedDtype(
      "halfType: expected 'float16' or 'bfloat16' for Uint16Array activations; received undefined",
    )
  }
  return DTYPES[halfType === 'float16' ? 'float16' : 'bfloat16']
}

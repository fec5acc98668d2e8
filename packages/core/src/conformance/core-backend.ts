/**
 * The backend without a runtime. It computes the frozen layer as a dense matrix product, and the adapters with the transforms of this package
 * or with the native kernel. It gives the first rows of the conformance table, and new backends can be compared with it. It is not meant to
 * serve models.
 */
import type { FloatArray, Layer } from '../adapter/layer.js'
import { loadAdapter } from '../files/load-adapter.js'
import type { ApplyOptions } from '../spectrum/apply-options.js'
import { addDelta, delta } from '../spectrum/delta.js'
import { addBackward, addForward } from '../spectrum/linear.js'
import { addProduct } from '../spectrum/matrix-product.js'
import type { Backend } from './backend.js'
import { type BaseLayer, checkedBackend, type LinearFunctions } from './checked-backend.js'

/** The functions that compute the branch: those of the native kernel, or of this package. */
interface BranchFunctions<Options> {
  /** `y += Σ Δy`, as `addForward`. */
  addForward(layers: readonly Layer[], x: Float32Array, y: Float32Array, options?: Options): Promise<void>
  /** Adds gradients, as `addBackward`. */
  addBackward(
    layers: readonly Layer[],
    x: Float32Array,
    gradY: Float32Array,
    gradients: { readonly coefficients: readonly FloatArray[]; readonly x?: Float32Array },
    options?: Options,
  ): Promise<void>
  delta(layer: Layer): Promise<Float32Array>
}

/** The part of a compiled kernel that this backend uses. `kernel()` of `@fourierft/native` returns such a kernel. */
export interface NativeKernel extends BranchFunctions<Pick<ApplyOptions, 'rows'>> {
  /** The instruction set that the kernel uses, for the table: `avx2`, … */
  readonly instructions: string
}

export interface CoreBackendOptions {
  /** Default: the TypeScript transforms of this package. */
  readonly kernel?: NativeKernel
}

/** Makes a backend `core`, or with a kernel `core-native`. The `resources` of a backend are its layers. */
export function coreBackend({ kernel }: CoreBackendOptions = {}): Backend {
  let live = 0
  const branch = kernel === undefined ? typeScriptBranch : kernelBranch(kernel)
  return checkedBackend({
    name: kernel === undefined ? 'core' : 'core-native',
    device: kernel === undefined ? 'cpu' : kernel.instructions,
    versions: engineVersions(),
    strategies: kernel === undefined ? ['merge', 'dense', 'factored', 'spectral'] : ['merge', 'native'],
    runtimeChecks: kernel === undefined ? ['strategy'] : [],
    delta: (layer) => branch.delta(layer),
    linear(base, layers) {
      live++
      return linearFunctions(branch, base, layers, () => live--)
    },
    async roundTrip(files) {
      const adapter = await loadAdapter(files)
      // With a dtype, `toBytes` encodes the files again; without one, it returns the bytes that were read.
      const dtypes = new Set(Array.from(adapter.modules.values(), ({ dtype }) => dtype))
      const [dtype] = dtypes
      return dtype !== undefined && dtypes.size === 1 ? adapter.toBytes({ dtype }) : adapter.toBytes()
    },
    resources: () => live,
  })
}

const typeScriptBranch: BranchFunctions<ApplyOptions> = {
  addForward: async (...call) => addForward(...call),
  addBackward: async (...call) => addBackward(...call),
  delta: async (layer) => delta(layer),
}

/** Omits the option `strategy`, because the kernel has only one. */
function kernelBranch(kernel: NativeKernel): BranchFunctions<ApplyOptions> {
  return {
    async addForward(layers, x, y, { rows } = {}) {
      if (layers.length > 0) await kernel.addForward(layers, x, y, rows && { rows })
    },
    async addBackward(layers, x, gradY, gradients, { rows } = {}) {
      if (layers.length > 0) await kernel.addBackward(layers, x, gradY, gradients, rows && { rows })
    },
    delta: (layer) => kernel.delta(layer),
  }
}

function engineVersions(): Readonly<Record<string, string>> {
  if (typeof process === 'object') return { node: process.versions.node, v8: process.versions.v8 ?? 'none' }
  return { browser: navigator.userAgent }
}

function linearFunctions(
  branch: BranchFunctions<ApplyOptions>,
  { weight, bias, shape: [d1, d2] }: BaseLayer,
  initialLayers: readonly Layer[],
  onDispose: () => void,
): LinearFunctions {
  const offset = bias ?? new Float32Array(d1)
  let layers = initialLayers
  let merged: Float32Array | undefined
  let enabled = true

  const activeWeight = () => (enabled && merged !== undefined ? merged : weight)

  return {
    async forward(x, options) {
      const { tokens } = options
      const y = new Float32Array(tokens * d1)
      for (let t = 0; t < tokens; t++) y.set(offset, t * d1)
      const transposed = { data: activeWeight(), rowStride: 1, columnStride: d2 }
      addProduct(tokens, d1, d2, { data: x, rowStride: d2, columnStride: 1 }, transposed, y)
      if (enabled && merged === undefined) await branch.addForward(layers, x, y, options)
      return y
    },
    async backward(x, gradY, options) {
      const coefficients = layers.map(({ entries }) => new Float32Array(entries.n))
      const gradX = new Float32Array(x.length)
      const w = { data: activeWeight(), rowStride: d2, columnStride: 1 }
      addProduct(options.tokens, d2, d1, { data: gradY, rowStride: d1, columnStride: 1 }, w, gradX)
      if (enabled) {
        const gradients = merged === undefined ? { coefficients, x: gradX } : { coefficients }
        await branch.addBackward(layers, x, gradY, gradients, options)
      }
      return { coefficients, x: gradX }
    },
    setCoefficients(newLayers) {
      layers = newLayers
    },
    disable() {
      enabled = false
    },
    enable() {
      enabled = true
    },
    merge() {
      const sum = Float64Array.from(weight)
      for (const layer of layers) addDelta(layer, sum)
      merged = Float32Array.from(sum)
    },
    unmerge() {
      merged = undefined
    },
    weight: () => activeWeight().slice(),
    dispose() {
      merged = undefined
      layers = []
      onDispose()
    },
  }
}

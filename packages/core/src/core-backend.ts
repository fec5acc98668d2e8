/**
 * The backend without a runtime: the frozen layer as a plain dense product, the adapters through this package's own transforms or
 * through the native kernel. It is the first rows of the conformance table, and what a new backend can be compared with; it is not
 * meant to serve models.
 */
import { createLayer, type FloatArray, type Layer } from './adapter/layer.js'
import type { AdaptedLinear, ApplyOptions, Backend, LinearGradients } from './backend.js'
import type { Shape } from './entries/entries.js'
import { FourierFTError, invalidState } from './errors.js'
import { loadAdapter } from './files/load-adapter.js'
import { checkBatch } from './spectrum/batch.js'
import { addDelta, delta } from './spectrum/delta.js'
import { addBackward, addForward } from './spectrum/linear.js'
import { addProduct } from './spectrum/matrix-product.js'
import { shapeMismatch } from './spectrum/shape-mismatch.js'

/** The branch beside the frozen layer, by whatever computes it. */
interface Branch<Options> {
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

/** What this backend asks of a kernel: `kernel()` of `@fourierft/native` is one. */
export interface NativeKernel extends Branch<Pick<ApplyOptions, 'rows'>> {
  /** `avx2`, …: what computes, for the table. */
  readonly instructions: string
}

export interface CoreBackendOptions {
  /** Default: this package's own transforms in TypeScript. */
  readonly kernel?: NativeKernel
}

/** A new backend, `core` or with a kernel `core-native`; each counts its own layers in `resources`. */
export function coreBackend({ kernel }: CoreBackendOptions = {}): Backend {
  const live = new Set<AdaptedLinear>()
  const branch = kernel === undefined ? ownBranch : nativeBranch(kernel)
  return {
    name: kernel === undefined ? 'core' : 'core-native',
    device: kernel === undefined ? 'cpu' : kernel.instructions,
    versions: engineVersions(),
    strategies: kernel === undefined ? ['merge', 'dense', 'factored', 'spectral'] : ['merge', 'native'],
    async delta(layer) {
      return branch.delta(createLayer(layer))
    },
    async linear(weight, bias, layers) {
      const linear = adaptedLinear(branch, weight, bias, layers, () => live.delete(linear))
      live.add(linear)
      return linear
    },
    async roundTrip(files) {
      const adapter = await loadAdapter(files)
      // Naming the dtype has the files written anew; an unchanged adapter would give back the very bytes it was read from.
      const dtypes = new Set(Array.from(adapter.modules.values(), ({ dtype }) => dtype))
      const [dtype] = dtypes
      return dtype !== undefined && dtypes.size === 1 ? adapter.toBytes({ dtype }) : adapter.toBytes()
    },
    resources: () => live.size,
    async dispose() {
      for (const linear of live) await linear.dispose()
    },
  }
}

const ownBranch: Branch<ApplyOptions> = {
  addForward: async (...call) => addForward(...call),
  addBackward: async (...call) => addBackward(...call),
  delta: async (layer) => delta(layer),
}

/** The kernel behind the checks, and the errors, of this package. */
function nativeBranch(kernel: NativeKernel): Branch<ApplyOptions> {
  return {
    async addForward(layers, x, y, options = {}) {
      if (layers.length === 0) return
      const { rows } = checkBatch(layers, x, y, 'y', withoutNative(options))
      await kernel.addForward(layers, x, y, rows && { rows })
    },
    async addBackward(layers, x, gradY, gradients, options = {}) {
      if (layers.length === 0) return
      const { rows } = checkBatch(layers, x, gradY, 'gradY', withoutNative(options))
      await kernel.addBackward(layers, x, gradY, gradients, rows && { rows })
    },
    delta: (layer) => kernel.delta(layer),
  }
}

/** The kernel has one strategy; any other than its own name is refused like one that nobody knows. */
function withoutNative({ rows, strategy = 'auto' }: ApplyOptions): ApplyOptions {
  if (strategy !== 'auto' && strategy !== 'native') {
    throw new FourierFTError('INVALID_OPTION', `strategy: expected auto or native; received ${strategy}`, {
      option: 'strategy',
      expected: ['auto', 'native'],
      received: strategy,
    })
  }
  return rows === undefined ? {} : { rows }
}

function engineVersions(): Readonly<Record<string, string>> {
  if (typeof process === 'object') return { node: process.versions.node, v8: process.versions.v8 ?? 'none' }
  return { browser: navigator.userAgent }
}

function adaptedLinear(
  branch: Branch<ApplyOptions>,
  weight: Float32Array,
  bias: Float32Array | null,
  givenLayers: readonly Layer[],
  onDispose: () => void,
): AdaptedLinear {
  const [d1, d2] = checkShapes(weight, bias, givenLayers)
  const base = weight.slice()
  const offset = bias === null ? new Float32Array(d1) : bias.slice()
  let layers = givenLayers.map((layer) => createLayer({ ...layer, coefficients: layer.coefficients.slice() }))
  let merged: Float32Array | undefined
  let enabled = true
  let disposed = false

  function checkState(isMerged?: boolean): void {
    if (disposed) throw invalidState('the layer was disposed; make a new one with linear()')
    if (isMerged === undefined || isMerged === (merged !== undefined)) return
    throw invalidState(
      isMerged ? 'the layer is not merged; call merge() first' : 'the layer is merged; call unmerge() first',
    )
  }

  function checkInput(x: Float32Array, { rows }: ApplyOptions): number {
    checkState(rows === undefined ? undefined : false)
    if (x.length % d2 !== 0) throw shapeMismatch('x', `whole rows of d2 = ${d2} numbers`, x.length)
    return x.length / d2
  }

  const activeWeight = () => (enabled && merged !== undefined ? merged : base)

  return {
    async forward(x, options = {}) {
      const tokens = checkInput(x, options)
      const y = new Float32Array(tokens * d1)
      for (let t = 0; t < tokens; t++) y.set(offset, t * d1)
      const transposed = { data: activeWeight(), rowStride: 1, columnStride: d2 }
      addProduct(tokens, d1, d2, { data: x, rowStride: d2, columnStride: 1 }, transposed, y)
      if (enabled && merged === undefined) await branch.addForward(layers, x, y, options)
      return y
    },
    async backward(x, gradY, options = {}): Promise<LinearGradients> {
      const tokens = checkInput(x, options)
      if (gradY.length !== tokens * d1) {
        throw shapeMismatch('gradY', `T·d1 = ${tokens}·${d1} = ${tokens * d1} numbers`, gradY.length)
      }
      const coefficients = layers.map(({ entries }) => new Float32Array(entries.n))
      const gradX = new Float32Array(x.length)
      const w = { data: activeWeight(), rowStride: d2, columnStride: 1 }
      addProduct(tokens, d2, d1, { data: gradY, rowStride: d1, columnStride: 1 }, w, gradX)
      if (enabled) {
        const gradients = merged === undefined ? { coefficients, x: gradX } : { coefficients }
        await branch.addBackward(layers, x, gradY, gradients, options)
      }
      return { coefficients, x: gradX }
    },
    async setCoefficients(coefficients) {
      checkState(false)
      if (coefficients.length !== layers.length) {
        throw shapeMismatch(
          'coefficients',
          `one array for each of ${layers.length} layers`,
          coefficients.length,
        )
      }
      layers = layers.map((layer, a) => createLayer({ ...layer, coefficients: coefficients[a].slice() }))
    },
    async disable() {
      checkState()
      enabled = false
    },
    async enable() {
      checkState()
      enabled = true
    },
    async merge() {
      checkState(false)
      const sum = Float64Array.from(base)
      for (const layer of layers) addDelta(layer, sum)
      merged = Float32Array.from(sum)
    },
    async unmerge() {
      checkState(true)
      merged = undefined
    },
    async weight(): Promise<FloatArray> {
      checkState()
      return activeWeight().slice()
    },
    async dispose() {
      checkState()
      disposed = true
      merged = undefined
      layers = []
      onDispose()
    },
  }
}

function checkShapes(weight: Float32Array, bias: Float32Array | null, layers: readonly Layer[]): Shape {
  const [d1, d2] = layers.length > 0 ? layers[0].shape : frozenShape(weight, bias)
  for (const { name, shape } of layers) {
    if (shape[0] !== d1 || shape[1] !== d2) {
      throw shapeMismatch(`shape of module ${name}`, `[${d1}, ${d2}], as the first layer's`, `[${shape}]`)
    }
  }
  if (weight.length !== d1 * d2) {
    throw shapeMismatch(
      'weight',
      `d1·d2 = ${d1}·${d2} = ${d1 * d2} numbers, the layers' shape`,
      weight.length,
    )
  }
  if (bias !== null && bias.length !== d1)
    throw shapeMismatch('bias', `d1 = ${d1} numbers, or null`, bias.length)
  return [d1, d2]
}

function frozenShape(weight: Float32Array, bias: Float32Array | null): Shape {
  if (bias !== null && bias.length > 0 && weight.length % bias.length === 0) {
    return [bias.length, weight.length / bias.length]
  }
  throw new FourierFTError(
    'INVALID_OPTION',
    'layers: expected at least one layer, or a bias that divides the weight into rows; received neither',
    { option: 'layers', expected: 'at least one layer, or a bias' },
  )
}

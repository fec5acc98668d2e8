/**
 * TensorFlow.js behind the seam between backends: what the conformance suite, the benchmarks and the command line see. Each layer is a
 * real `Sequential` model with one `Dense` layer, attached, and used through the verbs that users have.
 */
import {
  type AdaptedLinear,
  Adapter,
  type AdapterBytes,
  type ApplyOptions,
  type Backend,
  createConfig,
  createLayer,
  FourierFTError,
  invalidState,
  type Layer,
  loadAdapter,
  type Shape,
  savedModule,
  savedTensor,
  shapeMismatch,
} from '@fourierft/core'
import {
  backend,
  getBackend,
  grads,
  memory,
  mul,
  ready,
  setBackend,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
  transpose,
  version_core,
} from '@tensorflow/tfjs-core'
import {
  model as createModel,
  input,
  layers as kerasLayers,
  type LayersModel,
  type SymbolicTensor,
  sequential,
  version_layers,
} from '@tensorflow/tfjs-layers'
import { attach } from './attach/attach.js'
import { denseKernel } from './strategies/dense.js'
import { hasNativeKernel } from './strategies/native.js'
import { TableCache } from './table-cache.js'
import { provideWebGpu } from './webgpu-in-node.js'

/** Name of the one adapted module. */
const MODULE = 'linear'

/**
 * The backend of the TensorFlow.js backend that is current: `tf.setBackend` comes first.
 *
 * @param options `name` of the row in the conformance table, default `tfjs-` and the name of the TensorFlow.js backend; `device`: what
 *   computes, default that name
 */
export function tfjsBackend({
  name = `tfjs-${getBackend()}`,
  device = getBackend(),
}: {
  readonly name?: string
  readonly device?: string
} = {}): Backend {
  return {
    name,
    device,
    versions: { '@tensorflow/tfjs-core': version_core, '@tensorflow/tfjs-layers': version_layers },
    strategies: [
      'merge',
      'dense',
      'factored',
      'spectral',
      ...(hasNativeKernel() ? (['native'] as const) : []),
    ],
    delta: formedDelta,
    linear: adaptedLinear,
    roundTrip,
    resources: () => memory().numTensors,
  }
}

/** The TensorFlow.js backends that `createTfjsBackend` opens, by the end of their package's name. */
export type TfjsBackendName = 'cpu' | 'wasm' | 'webgpu' | 'node' | 'node-gpu'

/**
 * The same for a TensorFlow.js backend by name, loaded and made current in Node; for the command line.
 *
 * @throws {FourierFTError} `UNSUPPORTED` where its package is not installed or it does not start here; for `webgpu`, where Node has none;
 *   for `node` and `node-gpu`, where the other one has been loaded: a process has one TensorFlow
 */
export async function createTfjsBackend(name: TfjsBackendName): Promise<Backend> {
  if (name === 'node' || name === 'node-gpu') return createNodeBackend(name)
  const specifier = `@tensorflow/tfjs-backend-${name}`
  const device = name === 'webgpu' ? await provideWebGpu() : name
  try {
    // Bundlers leave it alone: which backends there are is the user's affair.
    await import(/* @vite-ignore */ /* webpackIgnore: true */ specifier)
    if (!(await setBackend(name))) throw new Error('setBackend gave false')
    await ready()
  } catch (cause) {
    throw new FourierFTError(
      'UNSUPPORTED',
      `TensorFlow.js has no backend '${name}' here; install ${specifier} ${version_core}`,
      { option: 'name', received: name, cause },
    )
  }
  return tfjsBackend({ device })
}

let loadedNode: 'node' | 'node-gpu' | undefined

async function createNodeBackend(name: 'node' | 'node-gpu'): Promise<Backend> {
  const specifier = `@tensorflow/tfjs-${name}`
  if (loadedNode !== undefined && loadedNode !== name) {
    throw new FourierFTError(
      'UNSUPPORTED',
      `@tensorflow/tfjs-${loadedNode} is loaded already and a process has one TensorFlow; run ${specifier} in a process of its own`,
      { option: 'name', received: name },
    )
  }
  try {
    await import(/* @vite-ignore */ /* webpackIgnore: true */ specifier)
    if (!(await setBackend('tensorflow'))) throw new Error('setBackend gave false')
  } catch (cause) {
    throw new FourierFTError(
      'UNSUPPORTED',
      `TensorFlow.js has no backend '${name}' here; install ${specifier} ${version_core} with its native binding ` +
        "(inside this project's repository: node packages/tfjs/scripts/tensorflow-binding.js)",
      { option: 'name', received: name, cause },
    )
  }
  loadedNode = name
  const { isUsingGpuDevice } = backend() as unknown as { readonly isUsingGpuDevice: boolean }
  return tfjsBackend({ name: `tfjs-${name}`, device: isUsingGpuDevice ? 'gpu' : 'cpu' })
}

/** ΔW as the strategy `dense` forms it, on the device that is current. */
async function formedDelta(given: Layer): Promise<Float32Array> {
  const { shape, entries, coefficients, scaling } = createLayer(given)
  const tables = new TableCache()
  try {
    return await read(
      tidy(() => {
        const c = mul(tensor1d(Float32Array.from(coefficients)), scaling / (shape[0] * shape[1]))
        return transpose(denseKernel(c, entries, tables))
      }),
    )
  } finally {
    tables.dispose()
  }
}

async function adaptedLinear(
  weight: Float32Array,
  bias: Float32Array | null,
  given: readonly Layer[],
): Promise<AdaptedLinear> {
  const [d1, d2] = checkShapes(weight, bias, given)
  const all = given.map(createLayer)
  const model = denseModel([{ name: MODULE, shape: [d1, d2], bias: bias !== null }])
  const dense = model.getLayer(MODULE)
  tidy(() => {
    const kernel = transpose(tensor2d(weight, [d1, d2]))
    dense.setWeights(bias ? [kernel, tensor1d(bias)] : [kernel])
  })
  const adapters = attach(model)
  // The frozen layer is TensorFlow.js alone.
  if (all.length === 0) adapters.detach()
  const names = all.map((_, index) => `adapter${index}`)
  for (const [index, layer] of all.entries()) {
    await adapters.loadAdapter(adapterOf(layer), { name: names[index] })
  }
  if (names.length > 0) adapters.setAdapter(names)
  let disposed = false

  function checkState(isMerged?: boolean): void {
    if (disposed) throw invalidState('the layer was disposed; make a new one with linear()')
    if (isMerged === undefined || isMerged === adapters.mergedAdapters.length > 0) return
    throw invalidState(
      isMerged ? 'the layer is not merged; call merge() first' : 'the layer is merged; call unmerge() first',
    )
  }

  function checkInput(x: Float32Array): number {
    checkState()
    if (x.length % d2 !== 0) throw shapeMismatch('x', `whole rows of d2 = ${d2} numbers`, x.length)
    return x.length / d2
  }

  /** Runs with one strategy, and with the adapters of the rows. */
  function applying<T>({ strategy = 'auto', rows }: ApplyOptions, tokens: number, run: () => T): T {
    adapters.strategy = strategy
    try {
      if (rows === undefined) return run()
      if (rows.length !== tokens)
        throw shapeMismatch('rows', `one index for each of ${tokens} tokens`, rows.length)
      return adapters.withAdapterPerRow(Array.from(rows, rowName), run)
    } finally {
      adapters.strategy = 'auto'
    }
  }

  function rowName(row: number): string | null {
    const name = names[row]
    if (row !== -1 && name === undefined) {
      throw new FourierFTError('INVALID_OPTION', `rows: expected −1 … ${names.length - 1}; received ${row}`, {
        option: 'rows',
        expected: `-1 … ${names.length - 1}`,
        received: row,
      })
    }
    return name ?? null
  }

  return {
    async forward(x, options = {}) {
      const tokens = checkInput(x)
      return read(
        tidy(() => {
          const xs = tensor2d(x, [tokens, d2])
          return applying(options, tokens, () => model.predict(xs, { batchSize: tokens }) as Tensor)
        }),
      )
    },
    async backward(x, gradY, options = {}) {
      const tokens = checkInput(x)
      checkState(false)
      if (gradY.length !== tokens * d1)
        throw shapeMismatch('gradY', `T·d1 = ${tokens}·${d1} numbers`, gradY.length)
      const { rows } = options
      const used = adapters.enabled
        ? names.flatMap((_, index) => (rows && !rows.includes(index) ? [] : [index]))
        : []
      const variables = used.map((index) => adapters.coefficients(names[index], MODULE))
      const gradients = tidy(() =>
        grads((xs: Tensor) => applying(options, tokens, () => model.apply(xs) as Tensor))(
          [tensor2d(x, [tokens, d2]), ...variables],
          tensor2d(gradY, [tokens, d1]),
        ),
      )
      const [gradX, ...byAdapter] = await Promise.all(gradients.map(read))
      const coefficients = all.map(
        ({ entries }, index) => byAdapter[used.indexOf(index)] ?? new Float32Array(entries.n),
      )
      return { coefficients, x: gradX }
    },
    async setCoefficients(coefficients) {
      checkState(false)
      if (coefficients.length !== all.length) {
        throw shapeMismatch('coefficients', `one array for each of ${all.length} layers`, coefficients.length)
      }
      for (const [index, layer] of all.entries()) createLayer({ ...layer, coefficients: coefficients[index] })
      coefficients.forEach((c, index) => {
        adapters.setCoefficients(names[index], { [MODULE]: c })
      })
    },
    async disable() {
      checkState()
      adapters.disableAdapters()
    },
    async enable() {
      checkState()
      adapters.enableAdapters()
    },
    async merge() {
      checkState(false)
      await adapters.mergeAdapter()
    },
    async unmerge() {
      checkState(true)
      adapters.unmergeAdapter()
    },
    async weight() {
      checkState()
      return read(tidy(() => transpose(dense.getWeights()[0])))
    },
    async dispose() {
      checkState()
      disposed = true
      if (all.length > 0) adapters.detach()
      model.dispose()
    },
  }
}

/** The files through a model that has the layers they are for; a shape that they do not hold is made up. */
async function roundTrip(files: AdapterBytes): Promise<AdapterBytes> {
  const adapter = await loadAdapter(files)
  const shapes = new Map<string, { shape: Shape; bias: boolean }>()
  for (const { name, shape, coefficients } of adapter.modules.values()) {
    const side = Math.ceil(Math.sqrt(coefficients.length))
    shapes.set(name, { shape: shape ?? [side, side], bias: false })
  }
  for (const [tensor, { shape }] of adapter.savedTensors) {
    const module = savedModule(tensor)
    const [d1, d2] = shape
    if (module === undefined || d1 === undefined || d2 === undefined) continue
    shapes.set(module, { shape: [d1, d2], bias: adapter.savedTensors.has(savedTensor(module, 'bias')) })
  }
  const model = denseModel(Array.from(shapes, ([name, layer]) => ({ name, ...layer })))
  try {
    const adapters = attach(model)
    try {
      await adapters.loadAdapter(adapter)
      // The bytes that were read, where the runtime's numbers are still those of the file; files written anew otherwise.
      return (await adapters.getAdapter()).toBytes()
    } finally {
      adapters.detach()
    }
  } finally {
    model.dispose()
  }
}

/** A model of `Dense` layers side by side. */
function denseModel(specs: readonly { name: string; shape: Shape; bias: boolean }[]): LayersModel {
  const layers = specs.map(({ name, shape: [d1, d2], bias }) =>
    kerasLayers.dense({ name, units: d1, inputShape: [d2], useBias: bias, kernelInitializer: 'zeros' }),
  )
  if (layers.length === 1) return sequential({ layers })
  const inputs = specs.map(({ shape: [, d2] }) => input({ shape: [d2] }))
  const outputs = layers.map((layer, i) => layer.apply(inputs[i]) as SymbolicTensor)
  return createModel({ inputs, outputs })
}

/** An adapter with this one layer. */
function adapterOf({ shape, entries, coefficients, scaling }: Layer): Adapter {
  const module = {
    name: MODULE,
    coefficients: Float32Array.from(coefficients),
    dtype: 'F32',
    shape,
    recipe: entries.recipe,
    entries,
  } as const
  const config = createConfig({ targetModules: [MODULE], nFrequency: entries.n, scaling })
  return new Adapter({ config, modules: new Map([[MODULE, module]]) })
}

function checkShapes(weight: Float32Array, bias: Float32Array | null, given: readonly Layer[]): Shape {
  const [d1, d2] = given[0]?.shape ?? frozenShape(weight, bias)
  for (const { name, shape } of given) {
    if (shape[0] !== d1 || shape[1] !== d2) {
      throw shapeMismatch(
        `shape of module ${name}`,
        `[${d1}, ${d2}], as the first layer's`,
        `[${shape.join(', ')}]`,
      )
    }
  }
  if (weight.length !== d1 * d2)
    throw shapeMismatch('weight', `d1·d2 = ${d1}·${d2} = ${d1 * d2} numbers`, weight.length)
  if (bias !== null && bias.length !== d1)
    throw shapeMismatch('bias', `d1 = ${d1} numbers, or null`, bias.length)
  return [d1, d2]
}

/** Without layers the bias tells `d1`. */
function frozenShape(weight: Float32Array, bias: Float32Array | null): Shape {
  if (bias === null || bias.length === 0) {
    throw new FourierFTError(
      'INVALID_OPTION',
      'layers: expected at least one layer, or a bias that tells the shape of the frozen layer',
      { option: 'layers', expected: 'at least one layer, or a bias', received: [] },
    )
  }
  return [bias.length, Math.floor(weight.length / bias.length)]
}

async function read(tensor: Tensor): Promise<Float32Array> {
  const values = Float32Array.from(await tensor.data())
  tensor.dispose()
  return values
}

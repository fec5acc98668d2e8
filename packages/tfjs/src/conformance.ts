/**
 * The backend of TensorFlow.js for the conformance suite, the benchmarks and the command line. Each layer is an attached `Sequential`
 * model with one `Dense` layer, and the backend uses the same methods as users.
 */
import {
  type AdapterBytes,
  FourierFTError,
  invalidState,
  type Layer,
  loadAdapter,
  type Shape,
  savedModule,
  savedTensor,
} from '@fourierft/core'
import {
  type Backend,
  type BaseLayer,
  type CheckedOptions,
  checkedBackend,
  type LinearFunctions,
  singleLayerAdapter,
} from '@fourierft/core/conformance'
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
 * Creates a backend for the current backend of TensorFlow.js: call `tf.setBackend` first.
 *
 * @param options `name` of the row in the conformance table, default `tfjs-` and the name of the TensorFlow.js backend; `device` that
 *   computes, default that name
 */
export function tfjsBackend({
  name = `tfjs-${getBackend()}`,
  device = getBackend(),
}: {
  readonly name?: string
  readonly device?: string
} = {}): Backend {
  return checkedBackend({
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
    runtimeChecks: ['strategy', 'merged'],
    delta: denseDelta,
    linear: linearFunctions,
    roundTrip,
    resources: () => memory().numTensors,
  })
}

/** The TensorFlow.js backends that `createTfjsBackend` opens, by the end of their package's name. */
export type TfjsBackendName = 'cpu' | 'wasm' | 'webgpu' | 'node' | 'node-gpu'

/**
 * Loads a TensorFlow.js backend in Node by its name, and makes it current.
 *
 * @throws {FourierFTError} `UNSUPPORTED` if its package is not installed, it does not start on this machine, Node has no WebGPU (`webgpu`),
 *   or the process has already loaded the other one of `node` and `node-gpu` (a process can load only one TensorFlow)
 */
export async function createTfjsBackend(name: TfjsBackendName): Promise<Backend> {
  if (name === 'node' || name === 'node-gpu') return createNodeBackend(name)
  const specifier = `@tensorflow/tfjs-backend-${name}`
  const device = name === 'webgpu' ? await provideWebGpu() : name
  try {
    // The comments stop bundlers from including every backend.
    await import(/* @vite-ignore */ /* webpackIgnore: true */ specifier)
    if (!(await setBackend(name))) throw new Error('setBackend gave false')
    await ready()
  } catch (cause) {
    throw new FourierFTError('UNSUPPORTED', `TensorFlow.js has no backend '${name}' here`, {
      advice: `install ${specifier} ${version_core}`,
      option: 'name',
      received: name,
      cause,
    })
  }
  return tfjsBackend({ device })
}

let loadedNode: 'node' | 'node-gpu' | undefined

async function createNodeBackend(name: 'node' | 'node-gpu'): Promise<Backend> {
  const specifier = `@tensorflow/tfjs-${name}`
  if (loadedNode !== undefined && loadedNode !== name) {
    throw new FourierFTError(
      'UNSUPPORTED',
      `@tensorflow/tfjs-${loadedNode} is already loaded, and a process can load only one TensorFlow`,
      { advice: `run ${specifier} in a separate process`, option: 'name', received: name },
    )
  }
  try {
    await import(/* @vite-ignore */ /* webpackIgnore: true */ specifier)
    if (!(await setBackend('tensorflow'))) throw new Error('setBackend gave false')
  } catch (cause) {
    throw new FourierFTError('UNSUPPORTED', `TensorFlow.js has no backend '${name}' here`, {
      advice:
        `install ${specifier} ${version_core} with its native binding ` +
        "(inside this project's repository: node packages/tfjs/scripts/tensorflow-binding.js)",
      option: 'name',
      received: name,
      cause,
    })
  }
  loadedNode = name
  const { isUsingGpuDevice } = backend() as unknown as { readonly isUsingGpuDevice: boolean }
  return tfjsBackend({ name: `tfjs-${name}`, device: isUsingGpuDevice ? 'gpu' : 'cpu' })
}

/** Computes ΔW as the strategy `dense` does, on the current device. */
async function denseDelta({ shape, entries, coefficients, scaling }: Layer): Promise<Float32Array> {
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

async function linearFunctions(
  { weight, bias, shape }: BaseLayer,
  layers: readonly Layer[],
): Promise<LinearFunctions> {
  const [d1, d2] = shape
  const model = denseModel([{ name: MODULE, shape, bias: bias !== null }])
  const dense = model.getLayer(MODULE)
  tidy(() => {
    const kernel = transpose(tensor2d(weight, [d1, d2]))
    dense.setWeights(bias ? [kernel, tensor1d(bias)] : [kernel])
  })
  const adapters = attach(model)
  // The frozen layer runs without this package.
  if (layers.length === 0) adapters.detach()
  const names = layers.map((_, index) => `adapter${index}`)
  for (const [index, layer] of layers.entries()) {
    await adapters.loadAdapter(singleLayerAdapter(MODULE, layer), { name: names[index] })
  }
  if (names.length > 0) adapters.setAdapter(names)

  /** Calls `run` with one strategy, and with the adapters of the rows. */
  function runWith<T>({ strategy, rows }: CheckedOptions, run: () => T): T {
    adapters.strategy = strategy
    try {
      if (rows === undefined) return run()
      return adapters.withAdapterPerRow(
        Array.from(rows, (row) => names[row] ?? null),
        run,
      )
    } finally {
      adapters.strategy = 'auto'
    }
  }

  return {
    forward(x, options) {
      const { tokens } = options
      return read(
        tidy(() => {
          const xs = tensor2d(x, [tokens, d2])
          return runWith(options, () => model.predict(xs, { batchSize: tokens }) as Tensor)
        }),
      )
    },
    async backward(x, gradY, options) {
      if (adapters.mergedAdapters.length > 0)
        throw invalidState('the layer is merged', 'call unmerge() first')
      const { tokens, rows } = options
      const used = adapters.enabled
        ? names.flatMap((_, index) => (rows && !rows.includes(index) ? [] : [index]))
        : []
      const variables = used.map((index) => adapters.coefficients(names[index], MODULE))
      const gradients = tidy(() =>
        grads((xs: Tensor) => runWith(options, () => model.apply(xs) as Tensor))(
          [tensor2d(x, [tokens, d2]), ...variables],
          tensor2d(gradY, [tokens, d1]),
        ),
      )
      const [gradX, ...byAdapter] = await Promise.all(gradients.map(read))
      const coefficients = layers.map(
        ({ entries }, index) => byAdapter[used.indexOf(index)] ?? new Float32Array(entries.n),
      )
      return { coefficients, x: gradX }
    },
    setCoefficients(newLayers) {
      for (const [index, { coefficients }] of newLayers.entries()) {
        adapters.setCoefficients(names[index], { [MODULE]: Float32Array.from(coefficients) })
      }
    },
    disable: () => adapters.disableAdapters(),
    enable: () => adapters.enableAdapters(),
    merge: () => adapters.mergeAdapter(),
    unmerge: () => adapters.unmergeAdapter(),
    weight: () => read(tidy(() => transpose(dense.getWeights()[0]))),
    dispose() {
      if (layers.length > 0) adapters.detach()
      model.dispose()
    },
  }
}

/** Loads the files into a model that has their layers, and saves them again. Modules whose shape is not in the files get some square shape. */
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
      // If no number changed, these are the bytes that were read.
      return (await adapters.getAdapter()).toBytes()
    } finally {
      adapters.detach()
    }
  } finally {
    model.dispose()
  }
}

/** Creates a model of parallel `Dense` layers. */
function denseModel(specs: readonly { name: string; shape: Shape; bias: boolean }[]): LayersModel {
  const layers = specs.map(({ name, shape: [d1, d2], bias }) =>
    kerasLayers.dense({ name, units: d1, inputShape: [d2], useBias: bias, kernelInitializer: 'zeros' }),
  )
  if (layers.length === 1) return sequential({ layers })
  const inputs = specs.map(({ shape: [, d2] }) => input({ shape: [d2] }))
  const outputs = layers.map((layer, i) => layer.apply(inputs[i]) as SymbolicTensor)
  return createModel({ inputs, outputs })
}

async function read(tensor: Tensor): Promise<Float32Array> {
  const values = Float32Array.from(await tensor.data())
  tensor.dispose()
  return values
}

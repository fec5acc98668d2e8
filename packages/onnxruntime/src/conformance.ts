/**
 * The conformance backends for ONNX Runtime. Each layer is a model of one `MatMul` and `Add`, opened by `createSession` and used with the methods
 * that users call. Gradients of coefficients come from the training graph of each adapter, as a trainer uses it, and ∂L/∂x from the same
 * transformation with the layer's input as the target. The node `FourierFTGrad` runs as the portable function or as the native operator.
 */
import { type Entries, FourierFTError, type Layer, type Shape } from '@fourierft/core'
import {
  type Backend,
  type BaseLayer,
  checkedBackend,
  type LinearFunctions,
  singleLayerAdapter,
} from '@fourierft/core/conformance'
import {
  attachBranches,
  createModel,
  DataType,
  findLinearLayers,
  LABELS,
  type LinearLayer,
  type Loss,
  makeTrainingGraph,
  type NewNode,
  type NewTensor,
  type NewValue,
  readModel,
  type TrainingGraph,
} from '@fourierft/onnx'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import { platform } from '#platform'
import type { AdaptedSession } from './adapted-session.js'
import { createSession, type SessionOptions } from './create-session.js'
import { addCoefficients, entriesUnion } from './entries-union.js'
import { registerFourierFTBackend } from './native-backend.js'
import { nativeProviders } from './native-providers.js'
import type { Ort } from './ort.js'
import type { SessionAdapter } from './session-adapter.js'
import { Parameters as TrainedNumbers } from './trainer/parameters.js'
import type { TrainableSession } from './trainer/trainable.js'
import type { TrainingSession } from './trainer/training-session.js'
import { transpose } from './transpose.js'

/** The name of the adapted module. */
const MODULE = 'block.linear'

const OPSET = 17

/** Hides a warning that ONNX Runtime prints for each session on a GPU: the CPU computes the sizes of tensors, as intended. */
const QUIET = { logSeverityLevel: 3 } as const

/** For each backend: ONNX Runtime's package, the execution provider, and the code that computes branches (native kernel or portable functions). */
const KINDS = {
  native: { runtime: 'node', provider: 'cpu', device: 'cpu', strategy: 'native' },
  cuda: { runtime: 'node', provider: 'cuda', device: 'cuda', strategy: 'native' },
  'cuda-host': { runtime: 'node', provider: 'cuda-host', device: 'cpu', strategy: 'native' },
  cpu: { runtime: 'node', provider: 'cpu', device: 'cpu', strategy: 'spectral' },
  webgpu: { runtime: 'node', provider: 'webgpu', device: 'webgpu', strategy: 'spectral' },
  'web-wasm': { runtime: 'web', provider: 'wasm', device: 'wasm', strategy: 'spectral' },
  'web-webgpu': { runtime: 'web', provider: 'webgpu', device: 'webgpu', strategy: 'spectral' },
} as const

export type OnnxRuntimeBackendName = keyof typeof KINDS

/**
 * The length of the unit vectors that are used to read a layer's weight: the outputs are the weight times this number, plus the bias. It is a power
 * of two, so the products are exact. It is so large that rounding removes the bias, unless a weight is smaller than 2⁻⁷⁰ of the bias.
 */
const UNIT_LENGTH = 2 ** 100

/** The most numbers in the input or output of one run when ΔW is read: 4 MB of float32. */
const MAX_RUN_SIZE = 2 ** 20

/** The members of a session that this backend uses. */
export type LayerSession = Pick<
  AdaptedSession,
  | 'run'
  | 'loadAdapter'
  | 'deleteAdapter'
  | 'setAdapter'
  | 'enabled'
  | 'disableAdapters'
  | 'enableAdapters'
  | 'mergedAdapters'
  | 'mergeAdapter'
  | 'unmergeAdapter'
  | 'trainable'
  | 'release'
>

export interface OnnxRuntimeBackendOptions {
  /** The copy of ONNX Runtime. Default in Node: the installed copy. Browsers have no default. */
  readonly ort?: Ort
  /** Opens the model of a layer (input `x`, output `y`). Default: `createSession`. Other packages pass a function that makes their own sessions. */
  readonly open?: (model: Uint8Array, options: SessionOptions) => Promise<LayerSession>
}

/** The options with which the backend makes sessions. */
interface SessionSettings {
  readonly ort: Ort
  readonly open: (model: Uint8Array, options: SessionOptions) => Promise<LayerSession>
  readonly strategy: 'native' | 'spectral'
  readonly provider: string
  /** The options of the session for gradients. Sessions with adapters choose the native kernel themselves. */
  readonly options: InferenceSession.SessionOptions
}

/**
 * Creates a conformance backend.
 *
 * @param kind of `onnxruntime-node`: `native` (the native kernel on the CPU), `cuda` (on CUDA), `cuda-host` (the CPU runs the CUDA kernels, for
 *   tests), `cpu`, `webgpu`; of `onnxruntime-web`: `web-wasm` (also in Node) and `web-webgpu`
 * @throws {FourierFTError} `UNSUPPORTED` if the runtime is not installed or lacks the provider on this machine, or there is no native kernel
 */
export async function createOnnxRuntimeBackend(
  kind: OnnxRuntimeBackendName,
  { open = createSession, ...options }: OnnxRuntimeBackendOptions = {},
): Promise<Backend> {
  const { runtime, provider, device, strategy } = KINDS[kind]
  const { ort, openSessions } = countingSessions(options.ort ?? (await loadOrt(runtime)))
  const native = await nativeProviders(strategy === 'native', ort, { executionProviders: [provider] })
  if (strategy === 'native') {
    if ('problem' in native) {
      const { problem, ...details } = native
      throw new FourierFTError('UNSUPPORTED', problem, details)
    }
    registerFourierFTBackend(ort)
  }
  const executionProviders = 'providers' in native ? native.providers : [{ name: provider }]
  const settings: SessionSettings = {
    ort,
    open,
    strategy,
    provider,
    options: { executionProviders, ...QUIET },
  }
  const deviceSession = await openDevice(kind, settings)
  return checkedBackend({
    name: kind === 'cuda-host' ? kind : `onnxruntime-${kind}`,
    device,
    versions: ort.env.versions,
    strategies: [strategy, 'merge'],
    trainable: 'users',
    runtimeChecks: ['merged'],
    delta: (layer) => deltaOfSession(settings, layer),
    linear: (base, layers) => linearFunctions(settings, base, layers),
    resources: openSessions,
    dispose: () => deviceSession.release(),
  })
}

/** Returns ΔW: the outputs of a layer with a weight of zeros for unit vectors. */
async function deltaOfSession(settings: SessionSettings, layer: Layer): Promise<Float32Array> {
  const { shape } = layer
  const [d1, d2] = shape
  const linear = await linearFunctions(settings, { weight: new Float32Array(d1 * d2), bias: null, shape }, [
    layer,
  ])
  try {
    // The rows of the identity matrix give the columns of ΔW, a batch of them in each run.
    const delta = new Float32Array(d1 * d2)
    const batchSize = Math.max(1, Math.floor(MAX_RUN_SIZE / Math.max(d1, d2)))
    for (let first = 0; first < d2; first += batchSize) {
      const tokens = Math.min(batchSize, d2 - first)
      const units = new Float32Array(tokens * d2)
      for (let t = 0; t < tokens; t++) units[t * d2 + first + t] = 1
      const columns = await linear.forward(units, { tokens, strategy: 'auto' })
      for (let p = 0; p < d1; p++)
        for (let t = 0; t < tokens; t++) delta[p * d2 + first + t] = columns[t * d1 + p]
    }
    return delta
  } finally {
    await linear.dispose()
  }
}

/** Loads the installed `onnxruntime-node`, or `onnxruntime-web` in Node. */
async function loadOrt(runtime: 'node' | 'web'): Promise<Ort> {
  if (runtime === 'node') return platform.loadOrt()
  const specifier = 'onnxruntime-web'
  try {
    // The comments stop bundlers from including onnxruntime-web: Node needs it only for comparison, and browsers pass the option `ort`.
    return await import(/* @vite-ignore */ /* webpackIgnore: true */ specifier)
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ERR_MODULE_NOT_FOUND'
    const reason = isMissing ? 'it is not installed' : (cause as Error).message
    throw new FourierFTError('UNSUPPORTED', `${specifier} could not be loaded: ${reason}`, {
      ...(isMissing && { advice: `run npm i ${specifier}` }),
      cause,
    })
  }
}

/** Returns the same ONNX Runtime, and a function that counts its open sessions. */
function countingSessions({ InferenceSession, Tensor, env, registerBackend }: Ort): {
  readonly ort: Ort
  readonly openSessions: () => number
} {
  let open = 0
  const create = async (...model: Parameters<typeof InferenceSession.create>) => {
    const session = await InferenceSession.create(...model)
    const release = session.release.bind(session)
    session.release = () => {
      open--
      return release()
    }
    open++
    return session
  }
  const counting = { create: create as typeof InferenceSession.create }
  return { ort: { InferenceSession: counting, Tensor, env, registerBackend }, openSessions: () => open }
}

/**
 * Opens a session that stays open as long as the backend. When the last session is released, ONNX Runtime releases the GPU and all compiled programs.
 */
async function openDevice(
  kind: OnnxRuntimeBackendName,
  { ort, options }: SessionSettings,
): Promise<InferenceSession> {
  const node = { opType: 'Identity', inputs: ['x'], outputs: ['y'] }
  const [x, y] = [floats('x', []), floats('y', [])]
  const model = createModel({ name: 'probe', nodes: [node], inputs: [x], outputs: [y] }, { opset: OPSET })
  try {
    return await ort.InferenceSession.create(model.toBytes(), options)
  } catch (cause) {
    const { provider } = KINDS[kind]
    const [reason] = (cause instanceof Error ? cause.message : String(cause)).trim().split('\n')
    throw new FourierFTError(
      'UNSUPPORTED',
      `ONNX Runtime cannot use the execution provider ${provider} on this machine (${reason})`,
      {
        ...(provider === 'webgpu' && {
          advice:
            'install a GPU driver, or a software driver (for Vulkan, set VK_ADD_DRIVER_FILES to its path)',
        }),
        option: 'kind',
        received: kind,
        cause,
      },
    )
  }
}

async function linearFunctions(
  { ort, open, strategy, provider, options }: SessionSettings,
  { weight, bias, shape }: BaseLayer,
  initialLayers: readonly Layer[],
): Promise<LinearFunctions> {
  const [d1, d2] = shape
  let layers = initialLayers
  const names = layers.map((_, index) => `adapter${index}`)
  const session = await open(layerModel(weight, bias, shape), {
    ort,
    executionProviders: [provider],
    ...QUIET,
    native: strategy === 'native',
  })
  const load = async () => {
    for (const [index, layer] of layers.entries())
      await session.loadAdapter(singleLayerAdapter(MODULE, layer), { name: names[index] })
    session.setAdapter(names)
  }
  await load()
  const trainers = new Map<string, Promise<LayerTrainer>>()
  /** ∂L/∂c of one adapter, as its trainer computes it. */
  const gradientOf = async (name: string, x: Tensor, gradY: Tensor): Promise<Float32Array> => {
    const { trainable } = session
    const { adapter } = trainable.adapterToTrain(name)
    const opened = trainers.get(name) ?? openTrainer(trainable, adapter)
    trainers.set(name, opened)
    const { training, parameters } = await opened
    parameters.read(adapter)
    const { gradients } = training.graph
    const results = await training.run({ feeds: { x }, labels: gradY }, parameters.feeds(), [
      ...gradients.values(),
    ])
    return parameters.gradients(results)[0] as Float32Array
  }
  const union = layers.length === 0 ? undefined : entriesUnion(layers.map(({ entries }) => entries))
  const training = gradientModel(layerModel(weight, bias, shape), union)
  const gradient = await ort.InferenceSession.create(training.bytes, options)
  const tensor = (values: Float32Array, dims: readonly number[]) => new ort.Tensor('float32', values, dims)

  return {
    async forward(x, { tokens, rows }) {
      const adapters = rows && { adapters: Array.from(rows, (row) => names[row] ?? null) }
      const { y } = await session.run({ x: tensor(x, [tokens, d2]) }, adapters)
      return y?.data as Float32Array
    },
    async backward(x, gradY, { tokens, rows }) {
      const { graph } = training
      const feeds: Record<string, Tensor> = {
        x: tensor(x, [tokens, d2]),
        [graph.labels as string]: tensor(gradY, [tokens, d1]),
      }
      const adapters = session.enabled ? layers.length : 0
      if (union !== undefined) {
        const { n } = union
        const onUnion = layers.map((layer) => {
          const coefficients = new Float32Array(union.n)
          addCoefficients(coefficients, 0, union, layer)
          return coefficients
        })
        const c = new Float32Array((adapters === 0 ? 0 : rows ? adapters + 1 : 1) * n)
        if (adapters > 0)
          for (const [index, coefficients] of onUnion.entries())
            for (const [l, value] of coefficients.entries()) {
              const position = (rows ? index * n : 0) + l
              c[position] = c[position] + value
            }
        feeds[training.coefficients] = tensor(c, [c.length / n, n])
        const adapterOfRow = BigInt64Array.from(rows ?? [0], BigInt)
        feeds[training.rows] = new ort.Tensor('int64', adapterOfRow, [adapterOfRow.length])
      }
      const results = await gradient.run(feeds, [...graph.gradients.values()])
      const coefficients: Float32Array[] = []
      for (const [index, { entries }] of layers.entries()) {
        // Tokens of other adapters do not affect the gradient of this one.
        const ofAdapter = gradY.map((value, i) => (rows && rows[Math.floor(i / d1)] !== index ? 0 : value))
        coefficients.push(
          adapters === 0
            ? new Float32Array(entries.n)
            : await gradientOf(names[index] ?? '', tensor(x, [tokens, d2]), tensor(ofAdapter, [tokens, d1])),
        )
      }
      return { coefficients, x: results[graph.gradients.get('x') ?? '']?.data as Float32Array }
    },
    async setCoefficients(newLayers) {
      layers = newLayers
      for (const name of names) session.deleteAdapter(name)
      await load()
    },
    disable: () => session.disableAdapters(),
    enable: () => session.enableAdapters(),
    merge: () => session.mergeAdapter(),
    unmerge: () => session.unmergeAdapter(),
    async weight() {
      const units = Float32Array.from({ length: d2 * d2 }, (_, p) => (p % (d2 + 1) === 0 ? UNIT_LENGTH : 0))
      const withBranch = session.mergedAdapters.length === 0 && session.enabled
      if (withBranch) session.disableAdapters()
      const running = session.run({ x: tensor(units, [d2, d2]) })
      if (withBranch) session.enableAdapters()
      const columns = (await running).y?.data as Float32Array
      return Float32Array.from({ length: d1 * d2 }, (_, i) => {
        const p = Math.floor(i / d2)
        return (columns[(i % d2) * d1 + p] - (bias?.[p] ?? 0)) / UNIT_LENGTH
      })
    },
    async dispose() {
      await session.release()
      await gradient.release()
    },
  }
}

/** Returns a model of one linear layer. */
function layerModel(weight: Float32Array, bias: Float32Array | null, [d1, d2]: Shape): Uint8Array {
  const name = `/${MODULE.replace('.', '/')}`
  const nodes: NewNode[] = [
    {
      name: `${name}/MatMul`,
      opType: 'MatMul',
      inputs: ['x', 'weight'],
      outputs: [bias ? 'product' : 'y'],
    },
  ]
  const initializers = [constant('weight', [d2, d1], transpose(weight, d1, d2))]
  if (bias) {
    nodes.push({ name: `${name}/Add`, opType: 'Add', inputs: ['product', 'bias'], outputs: ['y'] })
    initializers.push(constant('bias', [d1], bias))
  }
  const inputs = [floats('x', ['tokens', d2])]
  const outputs = [floats('y', ['tokens', d1])]
  return createModel({ name: 'layer', nodes, inputs, outputs, initializers }, { opset: OPSET }).toBytes()
}

/** The loss Σ g·y, whose gradient with respect to y is g: the labels are g. */
const WEIGHTED_SUM: Loss = {
  output: 'y',
  labels: { dataType: DataType.float, missingAxes: 0 },
  build: ({ list }) => ({
    nodes: list.nodes,
    sum: list.total(list.multiply('y', LABELS)),
    count: list.countOf('y'),
    seeds: new Map([['y', LABELS]]),
  }),
}

/** What a trainer has of one adapter. */
interface LayerTrainer {
  readonly training: TrainingSession
  readonly parameters: TrainedNumbers
}

async function openTrainer(trainable: TrainableSession, adapter: SessionAdapter): Promise<LayerTrainer> {
  const training = await trainable.openTraining(adapter, { loss: WEIGHTED_SUM })
  return { training, parameters: new TrainedNumbers(adapter, training) }
}

interface GradientModel {
  readonly bytes: Uint8Array
  readonly graph: TrainingGraph
  readonly rows: string
  readonly coefficients: string
}

/** Makes the graph with ∂L/∂x, by the transformation that makes training graphs. */
function gradientModel(layer: Uint8Array, entries: Entries | undefined): GradientModel {
  const model = readModel(layer)
  const linear = findLinearLayers(model)[0] as LinearLayer
  const branches = entries === undefined ? [] : [{ module: MODULE, layer: linear, entries }]
  const inputs = branches.length > 0 ? attachBranches(model, branches) : undefined
  const coefficients = inputs?.coefficients.get(MODULE) ?? ''
  const graph = makeTrainingGraph(model, { loss: WEIGHTED_SUM, targets: ['x'] })
  return { bytes: model.toBytes(), graph, rows: inputs?.rows ?? '', coefficients }
}

function floats(name: string, dims: readonly (number | string)[]): NewValue {
  return { name, dims, dataType: DataType.float }
}

function constant(name: string, dims: readonly number[], values: Float32Array): NewTensor {
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  return { name, dims, dataType: DataType.float, data }
}

/**
 * ONNX Runtime behind the seam between backends: what the conformance suite and the command line see. Each layer is a real model of one
 * `MatMul` and `Add`, opened by `createSession` and used through the verbs that users have. Gradients are those of a model with the node
 * `FourierFTGrad`: the portable function of that name, or in its place the native operator.
 */
import {
  type AdaptedLinear,
  Adapter,
  type ApplyOptions,
  type Backend,
  createConfig,
  createLayer,
  FourierFTError,
  invalidState,
  type Layer,
  type LinearGradients,
  type Shape,
  shapeMismatch,
} from '@fourierft/core'
import {
  createModel,
  DataType,
  DOMAIN,
  GRADIENT_TABLE_NAMES,
  gradientFunction,
  gradientTables,
  type NewNode,
  type NewTensor,
  type NewValue,
} from '@fourierft/onnx'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import { platform } from '#platform'
import type { AdaptedSession } from './adapted-session.js'
import { createSession, type SessionOptions } from './create-session.js'
import { coefficientsOn, entriesUnion, positionsOn } from './entries-union.js'
import { registerFourierFTBackend } from './native-backend.js'
import { nativeProviders } from './native-providers.js'
import type { Ort } from './ort.js'

/** Name of the one adapted module. */
const MODULE = 'block.linear'

const OPSET = 17

/** ONNX Runtime warns of each session on a GPU that leaves sizes to the CPU, as it should. */
const QUIET = { logSeverityLevel: 3 } as const

/** Which ONNX Runtime, the execution provider, and who computes the branches: the native kernel or the portable functions. */
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
 * What the units are multiplied by that make a layer tell its weight: a power of two, so that the products are exact, and so large that a bias is
 * lost beside every weight above 2⁻⁷⁰ of it.
 */
const LARGE = 2 ** 100

/** Numbers that one run gets or gives while ΔW is asked for: 4 MB of float32. */
const RUN_SIZE = 2 ** 20

/** What is used of the session of a layer. */
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
  | 'release'
>

export interface OnnxRuntimeBackendOptions {
  /** The copy of ONNX Runtime to use: in Node if not the installed one, in browsers always. */
  readonly ort?: Ort
  /** Opens the model of a layer (input `x`, output `y`); default: `createSession`. For packages whose users have sessions of another kind. */
  readonly open?: (model: Uint8Array, options: SessionOptions) => Promise<LayerSession>
}

/** Where sessions are made. */
interface Host {
  readonly ort: Ort
  readonly open: (model: Uint8Array, options: SessionOptions) => Promise<LayerSession>
  readonly strategy: 'native' | 'spectral'
  readonly provider: string
  /** Of the gradient's session; adapted sessions choose the native kernel themselves. */
  readonly options: InferenceSession.SessionOptions
}

/**
 * The backend of one of them: `native` (the native kernel on the CPU), `cuda` (on CUDA), `cuda-host` (the CUDA kernels run by the CPU: for
 * tests), `cpu` and `webgpu` are of `onnxruntime-node`; `web-wasm` and `web-webgpu` of `onnxruntime-web`, the first in Node too.
 *
 * @throws {FourierFTError} `UNSUPPORTED` where the runtime is not installed, has no such provider here, or there is no native kernel
 */
export async function createOnnxRuntimeBackend(
  kind: OnnxRuntimeBackendName,
  { open = createSession, ...options }: OnnxRuntimeBackendOptions = {},
): Promise<Backend> {
  const { runtime, provider, device, strategy } = KINDS[kind]
  const { ort, openSessions } = countingSessions(options.ort ?? (await loadOrt(runtime)))
  const own = await nativeProviders(strategy === 'native', ort, { executionProviders: [provider] })
  if (strategy === 'native') {
    if ('problem' in own) throw new FourierFTError('UNSUPPORTED', own.problem)
    registerFourierFTBackend(ort)
  }
  const executionProviders = 'providers' in own ? own.providers : [{ name: provider }]
  const host: Host = { ort, open, strategy, provider, options: { executionProviders, ...QUIET } }
  const deviceSession = await openDevice(kind, host)
  const live = new Set<AdaptedLinear>()
  const linear: Backend['linear'] = async (weight, bias, layers) => {
    const made = await adaptedLinear(host, weight, bias, layers, () => live.delete(made))
    live.add(made)
    return made
  }
  return {
    name: kind === 'cuda-host' ? kind : `onnxruntime-${kind}`,
    device,
    versions: ort.env.versions,
    strategies: [strategy, 'merge'],
    linear,
    async delta(given) {
      const layer = createLayer(given)
      const [d1, d2] = layer.shape
      const zero = await linear(new Float32Array(d1 * d2), null, [layer])
      try {
        // The rows of the unit matrix give the columns of ΔW: some of them at a time.
        const delta = new Float32Array(d1 * d2)
        const atOnce = Math.max(1, Math.floor(RUN_SIZE / Math.max(d1, d2)))
        for (let from = 0; from < d2; from += atOnce) {
          const tokens = Math.min(atOnce, d2 - from)
          const units = new Float32Array(tokens * d2)
          for (let t = 0; t < tokens; t++) units[t * d2 + from + t] = 1
          const columns = await zero.forward(units)
          for (let p = 0; p < d1; p++)
            for (let t = 0; t < tokens; t++) delta[p * d2 + from + t] = columns[t * d1 + p]
        }
        return delta
      } finally {
        await zero.dispose()
      }
    },
    resources: openSessions,
    async dispose() {
      for (const each of live) await each.dispose()
      await deviceSession.release()
    },
  }
}

/** The installed `onnxruntime-node`, or in Node `onnxruntime-web`. */
async function loadOrt(runtime: 'node' | 'web'): Promise<Ort> {
  if (runtime === 'node') return platform.loadOrt()
  const specifier = 'onnxruntime-web'
  try {
    // Bundlers leave it alone: in Node it is for comparison only, and browsers give their own as the option `ort`.
    return await import(/* @vite-ignore */ /* webpackIgnore: true */ specifier)
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ERR_MODULE_NOT_FOUND'
    const reason = isMissing ? `it is not installed: npm i ${specifier}` : (cause as Error).message
    throw new FourierFTError('UNSUPPORTED', `${specifier} does not load here: ${reason}`, { cause })
  }
}

/** The same ONNX Runtime, which counts the sessions that have been made and not been released. */
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
 * A session of the provider, to be held as long as others come and go: ONNX Runtime gives a GPU up with its last session, and with it all
 * programs that were compiled for it.
 */
async function openDevice(kind: OnnxRuntimeBackendName, { ort, options }: Host): Promise<InferenceSession> {
  const node = { opType: 'Identity', inputs: ['x'], outputs: ['y'] }
  const [x, y] = [floats('x', []), floats('y', [])]
  const model = createModel({ name: 'probe', nodes: [node], inputs: [x], outputs: [y] }, { opset: OPSET })
  try {
    return await ort.InferenceSession.create(model.toBytes(), options)
  } catch (cause) {
    const { provider } = KINDS[kind]
    const hint =
      provider === 'webgpu'
        ? '; a GPU with its driver is needed, or a software one: for Vulkan, VK_ADD_DRIVER_FILES names it'
        : ''
    const [reason] = (cause instanceof Error ? cause.message : String(cause)).trim().split('\n')
    throw new FourierFTError(
      'UNSUPPORTED',
      `ONNX Runtime has no execution provider ${provider} here${hint} (${reason})`,
      { option: 'kind', received: kind, cause },
    )
  }
}

async function adaptedLinear(
  { ort, open, strategy: own, provider, options }: Host,
  givenWeight: Float32Array,
  bias: Float32Array | null,
  given: readonly Layer[],
  onDispose: () => void,
): Promise<AdaptedLinear> {
  const [d1, d2] = checkShapes(givenWeight, bias, given)
  const weight = givenWeight.slice()
  let layers = given.map(createLayer)
  const names = layers.map((_, index) => `adapter${index}`)
  const session = await open(layerModel(weight, bias, [d1, d2]), {
    ort,
    executionProviders: [provider],
    ...QUIET,
    native: own === 'native',
  })
  const load = async () => {
    for (const [index, layer] of layers.entries())
      await session.loadAdapter(adapterOf(layer), { name: names[index] })
    session.setAdapter(names)
  }
  await load()
  const union = layers.length === 0 ? undefined : entriesUnion(layers.map(({ entries }) => entries))
  const gradient = await ort.InferenceSession.create(gradientModel(weight, [d1, d2], union), options)
  let disposed = false

  function checkState(): void {
    if (disposed) throw invalidState('the layer was disposed; make a new one with linear()')
  }

  function checkInput(x: Float32Array, { rows, strategy = 'auto' }: ApplyOptions): number {
    checkState()
    if (strategy !== 'auto' && strategy !== own)
      throw new FourierFTError('UNSUPPORTED', `strategy: expected auto or ${own}; received ${strategy}`, {
        option: 'strategy',
        expected: ['auto', own],
        received: strategy,
      })
    if (x.length % d2 !== 0) throw shapeMismatch('x', `whole rows of d2 = ${d2} numbers`, x.length)
    const tokens = x.length / d2
    if (rows !== undefined && rows.length !== tokens)
      throw shapeMismatch('rows', `one index for each of ${tokens} tokens`, rows.length)
    const broken = rows?.find((row) => row !== -1 && names[row] === undefined)
    if (broken !== undefined)
      throw new FourierFTError(
        'INVALID_OPTION',
        `rows: expected −1 … ${names.length - 1}; received ${broken}`,
        {
          option: 'rows',
          expected: `-1 … ${names.length - 1}`,
          received: broken,
        },
      )
    return tokens
  }

  const tensor = (values: Float32Array, dims: readonly number[]) => new ort.Tensor('float32', values, dims)

  return {
    async forward(x, options = {}) {
      const tokens = checkInput(x, options)
      const { rows } = options
      const adapters = rows && { adapters: Array.from(rows, (row) => names[row] ?? null) }
      const { y } = await session.run({ x: tensor(x, [tokens, d2]) }, adapters)
      return y?.data as Float32Array
    },
    async backward(x, gradY, options = {}): Promise<LinearGradients> {
      const tokens = checkInput(x, options)
      if (gradY.length !== tokens * d1)
        throw shapeMismatch('gradY', `T·d1 = ${tokens}·${d1} numbers`, gradY.length)
      const { rows } = options
      const feeds: Record<string, Tensor> = { g: tensor(gradY, [tokens, d1]) }
      const adapters = session.enabled ? layers.length : 0
      if (union !== undefined) {
        const { n } = union
        const all = layers.map((layer) => coefficientsOn(union, layer) as Float32Array)
        const c = new Float32Array((adapters === 0 ? 0 : rows ? adapters + 1 : 1) * n)
        if (adapters > 0)
          for (const [index, each] of all.entries())
            for (const [l, value] of each.entries()) {
              const at = (rows ? index * n : 0) + l
              c[at] = c[at] + value
            }
        feeds.x = tensor(x, [tokens, d2])
        feeds.c = tensor(c, [c.length / n, n])
        const chosen = BigInt64Array.from(rows ?? [0], BigInt)
        feeds.rows = new ort.Tensor('int64', chosen, [chosen.length])
      }
      const results = await gradient.run(feeds)
      const byAdapter = results.grad_c?.data as Float32Array | undefined
      const coefficients = layers.map(({ entries, scaling }, index) => {
        if (union === undefined || byAdapter === undefined || adapters === 0)
          return new Float32Array(entries.n)
        const from = rows ? index * union.n : 0
        // ∂L/∂c = α · ∂L/∂(α·c)
        return Float32Array.from(
          positionsOn(union, entries),
          (at) => scaling * byAdapter[from + (at as number)],
        )
      })
      return { coefficients, x: results.grad_x?.data as Float32Array }
    },
    async setCoefficients(coefficients) {
      checkState()
      if (session.mergedAdapters.length > 0) throw invalidState('the layer is merged; call unmerge() first')
      if (coefficients.length !== layers.length)
        throw shapeMismatch(
          'coefficients',
          `one array for each of ${layers.length} layers`,
          coefficients.length,
        )
      layers = layers.map((layer, index) =>
        createLayer({ ...layer, coefficients: coefficients[index].slice() }),
      )
      for (const name of names) session.deleteAdapter(name)
      await load()
    },
    async disable() {
      checkState()
      session.disableAdapters()
    },
    async enable() {
      checkState()
      session.enableAdapters()
    },
    async merge() {
      checkState()
      await session.mergeAdapter()
    },
    async unmerge() {
      checkState()
      if (session.mergedAdapters.length === 0)
        throw invalidState('the layer is not merged; call merge() first')
      session.unmergeAdapter()
    },
    async weight() {
      checkState()
      const units = Float32Array.from({ length: d2 * d2 }, (_, p) => (p % (d2 + 1) === 0 ? LARGE : 0))
      const withBranch = session.mergedAdapters.length === 0 && session.enabled
      if (withBranch) session.disableAdapters()
      const running = session.run({ x: tensor(units, [d2, d2]) })
      if (withBranch) session.enableAdapters()
      const columns = (await running).y?.data as Float32Array
      return Float32Array.from({ length: d1 * d2 }, (_, i) => {
        const p = Math.floor(i / d2)
        return (columns[(i % d2) * d1 + p] - (bias?.[p] ?? 0)) / LARGE
      })
    },
    async dispose() {
      checkState()
      disposed = true
      await session.release()
      await gradient.release()
      onDispose()
    },
  }
}

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
  const initializers = [constant('weight', [d2, d1], transposed(weight, [d1, d2]))]
  if (bias) {
    nodes.push({ name: `${name}/Add`, opType: 'Add', inputs: ['product', 'bias'], outputs: ['y'] })
    initializers.push(constant('bias', [d1], bias))
  }
  const inputs = [floats('x', ['tokens', d2])]
  const outputs = [floats('y', ['tokens', d1])]
  return createModel({ name: 'layer', nodes, inputs, outputs, initializers }, { opset: OPSET }).toBytes()
}

/** ∂L/∂x = g·W + the branch's, and ∂L/∂(α·c). */
function gradientModel(
  weight: Float32Array,
  [d1, d2]: Shape,
  entries: ReturnType<typeof entriesUnion> | undefined,
): Uint8Array {
  const base = { opType: 'MatMul', inputs: ['g', 'weight'], outputs: [entries ? 'base' : 'grad_x'] }
  const frozen = {
    name: 'gradient',
    nodes: [base],
    inputs: [floats('g', ['tokens', d1])],
    outputs: [floats('grad_x', ['tokens', d2])],
    initializers: [constant('weight', [d1, d2], weight)],
  }
  if (entries === undefined) return createModel(frozen, { opset: OPSET }).toBytes()
  const branch = {
    opType: 'FourierFTGrad',
    domain: DOMAIN,
    inputs: ['x', 'g', 'c', 'rows', ...GRADIENT_TABLE_NAMES],
    outputs: ['grad_c', 'branch'],
  }
  const sum = { opType: 'Add', inputs: ['base', 'branch'], outputs: ['grad_x'] }
  const model = createModel(
    {
      ...frozen,
      nodes: [base, branch, sum],
      inputs: [
        ...frozen.inputs,
        floats('x', ['tokens', d2]),
        floats('c', ['adapters', entries.n]),
        { name: 'rows', dataType: DataType.int64, dims: ['rows'] },
      ],
      outputs: [...frozen.outputs, floats('grad_c', ['adapters', entries.n])],
      initializers: [...frozen.initializers, ...gradientTables(entries, '')],
    },
    { opset: OPSET },
  )
  model.addOpsetImport(DOMAIN, 1)
  model.addFunction(gradientFunction(OPSET))
  return model.toBytes()
}

function floats(name: string, dims: readonly (number | string)[]): NewValue {
  return { name, dims, dataType: DataType.float }
}

function constant(name: string, dims: readonly number[], values: Float32Array): NewTensor {
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  return { name, dims, dataType: DataType.float, data }
}

/** `[d1, d2]` as `[d2, d1]`. */
function transposed(weight: Float32Array, [d1, d2]: Shape): Float32Array {
  return Float32Array.from({ length: d1 * d2 }, (_, p) => weight[(p % d1) * d2 + Math.floor(p / d1)])
}

/** An adapter with this one layer. */
function adapterOf({ shape, entries, coefficients, scaling }: Layer): Adapter {
  const { recipe } = entries
  const own = Float32Array.from(coefficients)
  const module = { name: MODULE, coefficients: own, dtype: 'F32', shape, recipe, entries } as const
  const config = createConfig({ targetModules: [MODULE], nFrequency: entries.n, scaling })
  return new Adapter({ config, modules: new Map([[MODULE, module]]) })
}

/** Without layers the bias tells `d1`. */
function checkShapes(weight: Float32Array, bias: Float32Array | null, layers: readonly Layer[]): Shape {
  const [d1, d2] = layers[0]?.shape ?? [bias?.length ?? 0, weight.length / (bias?.length || 1)]
  if (d1 === 0)
    throw new FourierFTError(
      'INVALID_OPTION',
      'layers: expected at least one layer, or a bias that tells the shape of the frozen layer',
      { option: 'layers', expected: 'at least one layer, or a bias', received: [] },
    )
  for (const { name, shape } of layers)
    if (shape[0] !== d1 || shape[1] !== d2)
      throw shapeMismatch(
        `shape of module ${name}`,
        `[${d1}, ${d2}], as the first layer's`,
        `[${shape.join(', ')}]`,
      )
  if (weight.length !== d1 * d2 || !Number.isInteger(d2))
    throw shapeMismatch('weight', `d1·d2 = ${d1}·${d2} numbers`, weight.length)
  if (bias !== null && bias.length !== d1)
    throw shapeMismatch('bias', `d1 = ${d1} numbers, or null`, bias.length)
  return [d1, d2]
}

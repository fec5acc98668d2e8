/**
 * ONNX Runtime behind the seam between backends: what the conformance suite and the command line see. Each layer is a real model of one
 * `MatMul` and `Add`, opened by `createSession` and used through the verbs that users have. Gradients are those of the native operator
 * `FourierFTGrad`; the portable function has none yet.
 */
import {
  type AdaptedLinear,
  Adapter,
  type ApplyOptions,
  type Backend,
  createConfig,
  createLayer,
  FourierFTError,
  type Layer,
  type LinearGradients,
  type Shape,
} from '@fourierft/core'
import { branchTables, DataType, DOMAIN, readModel, TABLE_NAMES } from '@fourierft/onnx'
import type { Tensor } from 'onnxruntime-common'
import { platform } from '#platform'
import { createSession } from './create-session.js'
import { coefficientsOn, entriesUnion, positionsOn } from './entries-union.js'
import { BACKEND, registerFourierFTBackend } from './native-backend.js'
import type { Ort } from './ort.js'

/** Name of the one adapted module. */
const MODULE = 'block.linear'

/** y = Identity(x), opset 17: what models are made from. */
const IDENTITY = 'CAg6LgoQCgF4EgF5IghJZGVudGl0eRIEbWFpbloJCgF4EgQKAggBYgkKAXkSBAoCCAFCBAoAEBE='

/** What runs the branches: the native kernel, or the portable function in `onnxruntime-node` or in `onnxruntime-web`'s wasm. */
export type OnnxRuntimeBackendName = 'native' | 'cpu' | 'web-wasm'

/**
 * The backend of one of them, in Node. Gradients are there with the native kernel only; `backward` is `UNSUPPORTED` without it.
 *
 * @throws {FourierFTError} `UNSUPPORTED` where the runtime is not installed, or there is no native kernel
 */
export async function createOnnxRuntimeBackend(kind: OnnxRuntimeBackendName): Promise<Backend> {
  const ort = kind === 'web-wasm' ? await loadWeb() : await platform.loadOrt()
  if (kind === 'native') {
    try {
      await platform.openNative()
    } catch (cause) {
      throw new FourierFTError('UNSUPPORTED', (cause as Error).message, { cause })
    }
    registerFourierFTBackend(ort)
  }
  const strategy = kind === 'native' ? 'native' : 'spectral'
  const live = new Set<AdaptedLinear>()
  const linear: Backend['linear'] = async (weight, bias, layers) => {
    const made = await adaptedLinear(ort, strategy, weight, bias, layers, () => live.delete(made))
    live.add(made)
    return made
  }
  return {
    name: `onnxruntime-${kind}`,
    device: kind === 'web-wasm' ? 'wasm' : 'cpu',
    versions: ort.env.versions as Record<string, string>,
    strategies: [strategy],
    linear,
    async delta(given) {
      const layer = createLayer(given)
      const [d1, d2] = layer.shape
      const zero = await linear(new Float32Array(d1 * d2), null, [layer])
      try {
        // The rows of the unit matrix give the columns of ΔW.
        const unit = Float32Array.from({ length: d2 * d2 }, (_, p) => (p % (d2 + 1) === 0 ? 1 : 0))
        const columns = await zero.forward(unit)
        return Float32Array.from(
          { length: d1 * d2 },
          (_, p) => columns[(p % d2) * d1 + Math.floor(p / d2)] as number,
        )
      } finally {
        await zero.dispose()
      }
    },
    resources: () => live.size,
    async dispose() {
      for (const each of live) await each.dispose()
    },
  }
}

async function loadWeb(): Promise<Ort> {
  const specifier = 'onnxruntime-web'
  try {
    // Bundlers leave it alone: in Node it is there for comparison only.
    return await import(/* @vite-ignore */ /* webpackIgnore: true */ specifier)
  } catch (cause) {
    throw new FourierFTError('UNSUPPORTED', `${specifier} does not load here: ${(cause as Error).message}`, {
      cause,
    })
  }
}

async function adaptedLinear(
  ort: Ort,
  own: 'native' | 'spectral',
  givenWeight: Float32Array,
  bias: Float32Array | null,
  given: readonly Layer[],
  onDispose: () => void,
): Promise<AdaptedLinear> {
  const [d1, d2] = checkShapes(givenWeight, bias, given)
  const weight = givenWeight.slice()
  let layers = given.map(createLayer)
  const names = layers.map((_, index) => `adapter${index}`)
  const session = await createSession(layerModel(weight, bias, [d1, d2]), {
    ort,
    native: own === 'native',
  })
  const load = async () => {
    for (const [index, layer] of layers.entries())
      await session.loadAdapter(adapterOf(layer), { name: names[index] as string })
    session.setAdapter(names)
  }
  await load()
  const union = layers.length === 0 ? undefined : entriesUnion(layers.map(({ entries }) => entries))
  const gradient =
    own === 'native'
      ? await ort.InferenceSession.create(gradientModel(weight, [d1, d2], union), {
          executionProviders: [{ name: BACKEND }],
        })
      : undefined
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
    if (x.length % d2 !== 0) throw mismatch('x', `whole rows of d2 = ${d2} numbers`, x.length)
    const tokens = x.length / d2
    if (rows !== undefined && rows.length !== tokens)
      throw mismatch('rows', `one index for each of ${tokens} tokens`, rows.length)
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

  const floats = (values: Float32Array, dims: readonly number[]) => new ort.Tensor('float32', values, dims)

  return {
    async forward(x, options = {}) {
      const tokens = checkInput(x, options)
      const { rows } = options
      const adapters = rows && { adapters: Array.from(rows, (row) => names[row] ?? null) }
      const { y } = await session.run({ x: floats(x, [tokens, d2]) }, adapters)
      return y?.data as Float32Array
    },
    async backward(x, gradY, options = {}): Promise<LinearGradients> {
      const tokens = checkInput(x, options)
      if (gradY.length !== tokens * d1)
        throw mismatch('gradY', `T·d1 = ${tokens}·${d1} numbers`, gradY.length)
      if (gradient === undefined)
        throw new FourierFTError(
          'UNSUPPORTED',
          'the portable function has no gradient yet; train with the native kernel',
        )
      const { rows } = options
      const feeds: Record<string, Tensor> = { g: floats(gradY, [tokens, d1]) }
      const adapters = session.enabled ? layers.length : 0
      if (union !== undefined) {
        const { n } = union
        const all = layers.map((layer) => coefficientsOn(union, layer) as Float32Array)
        const c = new Float32Array((adapters === 0 ? 0 : rows ? adapters + 1 : 1) * n)
        if (adapters > 0)
          for (const [index, each] of all.entries())
            for (const [l, value] of each.entries()) {
              const at = (rows ? index * n : 0) + l
              c[at] = (c[at] as number) + value
            }
        feeds.x = floats(x, [tokens, d2])
        feeds.c = floats(c, [c.length / n, n])
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
          (at) => scaling * (byAdapter[from + (at as number)] as number),
        )
      })
      return { coefficients, x: results.grad_x?.data as Float32Array }
    },
    async setCoefficients(coefficients) {
      checkState()
      if (coefficients.length !== layers.length)
        throw mismatch('coefficients', `one array for each of ${layers.length} layers`, coefficients.length)
      layers = layers.map((layer, index) =>
        createLayer({ ...layer, coefficients: (coefficients[index] as Float32Array).slice() }),
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
      throw new FourierFTError(
        'UNSUPPORTED',
        'a session does not merge: the weights of its file stay as they are',
      )
    },
    async unmerge() {
      checkState()
      throw invalidState('the layer is not merged, and a session does not merge')
    },
    async weight() {
      checkState()
      return weight.slice()
    },
    async dispose() {
      checkState()
      disposed = true
      await session.release()
      await gradient?.release()
      onDispose()
    },
  }
}

function layerModel(weight: Float32Array, bias: Float32Array | null, [d1, d2]: Shape): Uint8Array {
  const model = template()
  const { graph } = model
  const [identity] = graph.nodes as [(typeof graph.nodes)[number]]
  identity.setOutput(0, 'input')
  graph.addInitializer({
    name: 'weight',
    dims: [d2, d1],
    dataType: DataType.float,
    data: transposed(weight, [d1, d2]),
  })
  if (bias) graph.addInitializer({ name: 'bias', dims: [d1], dataType: DataType.float, data: bytesOf(bias) })
  const name = `/${MODULE.replace('.', '/')}`
  graph.insertAfter(identity, [
    {
      name: `${name}/MatMul`,
      opType: 'MatMul',
      inputs: ['input', 'weight'],
      outputs: [bias ? 'product' : 'y'],
    },
    ...(bias ? [{ name: `${name}/Add`, opType: 'Add', inputs: ['product', 'bias'], outputs: ['y'] }] : []),
  ])
  return model.toBytes()
}

/** ∂L/∂x = g·W + the branch's, and ∂L/∂(α·c). */
function gradientModel(
  weight: Float32Array,
  [d1, d2]: Shape,
  entries: ReturnType<typeof entriesUnion> | undefined,
) {
  const model = template()
  const { graph } = model
  const [identity] = graph.nodes as [(typeof graph.nodes)[number]]
  graph.addInput({ name: 'g', dataType: DataType.float, dims: ['tokens', d1] })
  graph.addOutput({ name: 'grad_x', dataType: DataType.float, dims: ['tokens', d2] })
  graph.addInitializer({ name: 'weight', dims: [d1, d2], dataType: DataType.float, data: bytesOf(weight) })
  const base = { opType: 'MatMul', inputs: ['g', 'weight'], outputs: [entries ? 'base' : 'grad_x'] }
  if (entries === undefined) {
    graph.insertAfter(identity, [base])
    return model.toBytes()
  }
  model.addOpsetImport(DOMAIN, 1)
  graph.addInput({ name: 'c', dataType: DataType.float, dims: ['adapters', entries.n] })
  graph.addInput({ name: 'rows', dataType: DataType.int64, dims: ['rows'] })
  graph.addOutput({ name: 'grad_c', dataType: DataType.float, dims: ['adapters', entries.n] })
  for (const table of branchTables(entries, '')) graph.addInitializer(table)
  graph.insertAfter(identity, [
    base,
    {
      name: 'gradient',
      opType: 'FourierFTGrad',
      domain: DOMAIN,
      inputs: ['x', 'g', 'c', 'rows', ...TABLE_NAMES],
      outputs: ['grad_c', 'branch'],
    },
    { opType: 'Add', inputs: ['base', 'branch'], outputs: ['grad_x'] },
  ])
  return model.toBytes()
}

function template() {
  const bytes = Uint8Array.from(atob(IDENTITY), (character) => character.charCodeAt(0))
  return readModel(bytes, { file: 'layer.onnx' })
}

function transposed(weight: Float32Array, [d1, d2]: Shape): Uint8Array {
  return bytesOf(
    Float32Array.from({ length: d1 * d2 }, (_, p) => weight[(p % d1) * d2 + Math.floor(p / d1)] as number),
  )
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) =>
  new Uint8Array(buffer, byteOffset, byteLength)

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
      throw mismatch(
        `shape of module ${name}`,
        `[${d1}, ${d2}], as the first layer's`,
        `[${shape.join(', ')}]`,
      )
  if (weight.length !== d1 * d2 || !Number.isInteger(d2))
    throw mismatch('weight', `d1·d2 = ${d1}·${d2} numbers`, weight.length)
  if (bias !== null && bias.length !== d1) throw mismatch('bias', `d1 = ${d1} numbers, or null`, bias.length)
  return [d1, d2]
}

function mismatch(what: string, expected: string, received: number | string): FourierFTError {
  return new FourierFTError('SHAPE_MISMATCH', `${what}: expected ${expected}; received ${received}`, {
    expected,
    received,
  })
}

function invalidState(message: string): FourierFTError {
  return new FourierFTError('INVALID_STATE', message)
}

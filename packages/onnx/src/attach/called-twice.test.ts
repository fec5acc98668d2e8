/**
 * A module that a graph calls twice is one layer with two products, which are adapted, replaced and baked together. Products of different
 * modules are different layers.
 */
import { createLayer, referenceForward, uniformEntries } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { decideProducts, joinProducts } from '../layers/join-products.js'
import type { LinearLayer } from '../layers/linear-layer.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { matchLayers } from '../layers/match-layers.js'
import { findPackedLayers } from '../layers/packed-layers.js'
import { productsOf } from '../layers/products.js'
import { readLayer } from '../layers/read-layer.js'
import { createModel } from '../model/create-model.js'
import type { NewNode, NewTensor } from '../model/encode.js'
import { readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { attachBranches } from './attach.js'
import { bakeBranches } from './bake.js'
import { detachBranches } from './detach.js'

const [OUT, IN, TOKENS] = [6, 4, 3]
const sines = (length: number, phase: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(1.3 * i + phase))
/** `[in, out]`, the layout of exporters. */
const weight = sines(IN * OUT, 1)
const bias = sines(OUT, 2)
const back = sines(OUT * IN, 3)
const x = sines(TOKENS * IN, 4)

const bytes = (values: Float32Array) => new Uint8Array(values.slice().buffer)
const floats = (name: string, dims: readonly number[], values: Float32Array) => ({
  name,
  dims,
  dataType: DataType.float,
  data: bytes(values),
})

/** How a file stores the weight and bias of the two calls. */
interface Variant {
  readonly weights: readonly [string, string]
  readonly biases?: readonly [string, string]
  readonly names?: readonly [string, string]
  readonly initializers: readonly NewTensor[]
  readonly before?: readonly NewNode[]
}

/** y = proj(tanh(proj(x))·back). The exporter adds a suffix to the name of the second call. */
function modelCallingTwice({ weights, biases, names, initializers, before = [] }: Variant): Uint8Array {
  const [first, second] = names ?? ['/block/proj', '/block/proj_1']
  const call = (name: string, i: 0 | 1, input: string, output: string): NewNode[] => {
    if (!biases)
      return [{ name: `${name}/MatMul`, opType: 'MatMul', inputs: [input, weights[i]], outputs: [output] }]
    const product = `${output}_product`
    return [
      { name: `${name}/MatMul`, opType: 'MatMul', inputs: [input, weights[i]], outputs: [product] },
      { name: `${name}/Add`, opType: 'Add', inputs: [biases[i], product], outputs: [output] },
    ]
  }
  return createModel(
    {
      name: 'main_graph',
      inputs: [{ name: 'x', dataType: DataType.float, dims: ['batch', TOKENS, IN] }],
      outputs: [{ name: 'y', dataType: DataType.float, dims: ['batch', TOKENS, OUT] }],
      initializers: [...initializers, floats('back', [OUT, IN], back)],
      nodes: [
        ...before,
        ...call(first, 0, 'x', 'u'),
        { name: '/Tanh', opType: 'Tanh', inputs: ['u'], outputs: ['v'] },
        { name: '/back/MatMul', opType: 'MatMul', inputs: ['v', 'back'], outputs: ['w'] },
        ...call(second, 1, 'w', 'y'),
      ],
    },
    { opset: 17 },
  ).toBytes()
}

const SHARED: Variant = {
  weights: ['onnx::MatMul_7', 'onnx::MatMul_7'],
  initializers: [floats('onnx::MatMul_7', [IN, OUT], weight)],
}
const COPIES: Variant = {
  weights: ['onnx::MatMul_7', 'onnx::MatMul_9'],
  biases: ['proj.bias', 'proj.bias_copy'],
  initializers: [
    floats('onnx::MatMul_7', [IN, OUT], weight),
    floats('onnx::MatMul_9', [IN, OUT], weight),
    floats('proj.bias', [OUT], bias),
    floats('proj.bias_copy', [OUT], bias),
  ],
}
const VARIANTS: Readonly<Record<string, Variant>> = {
  'one weight': SHARED,
  'one weight and one bias': {
    ...SHARED,
    biases: ['proj.bias', 'proj.bias'],
    initializers: [...SHARED.initializers, floats('proj.bias', [OUT], bias)],
  },
  'copies of weight and bias': COPIES,
  'one weight copied by Identity, as PyTorch exports it': {
    weights: ['onnx::MatMul_7', 'onnx::MatMul_9'],
    biases: ['proj.bias', 'proj.bias_call'],
    initializers: [floats('onnx::MatMul_7', [IN, OUT], weight), floats('block.norm.bias', [OUT], bias)],
    before: [
      { opType: 'Identity', inputs: ['onnx::MatMul_7'], outputs: ['onnx::MatMul_9'] },
      // The bias of a normalisation has the same numbers.
      { opType: 'Identity', inputs: ['block.norm.bias'], outputs: ['proj.bias'] },
      { opType: 'Identity', inputs: ['block.norm.bias'], outputs: ['proj.bias_call'] },
    ],
  },
  'a second call of the parent module': { ...SHARED, names: ['/group.0/proj', '/group.0_1/proj'] },
}

const entries = uniformEntries({ shape: [OUT, IN], n: 7, seed: 777 })
const coefficients = sines(7, 5)
const adapter = createLayer({ name: 'block.proj', shape: [OUT, IN], entries, coefficients, scaling: 30 })

/** The output in float64, for a weight `[in, out]` and a bias, with or without the adapter. */
function expected(
  projWeight: Float32Array,
  projBias: Float32Array | undefined,
  isAdapted: boolean,
): Float64Array {
  const product = (input: ArrayLike<number>, w: Float32Array, rows: number, columns: number) =>
    Float64Array.from({ length: TOKENS * columns }, (_, i) => {
      const [t, c] = [Math.floor(i / columns), i % columns]
      let sum = 0
      for (let r = 0; r < rows; r++) sum += input[t * rows + r] * w[r * columns + c]
      return sum
    })
  const proj = (input: ArrayLike<number>) => {
    const base = product(input, projWeight, IN, OUT).map((value, i) => value + (projBias?.[i % OUT] ?? 0))
    return isAdapted ? referenceForward([adapter], Float64Array.from(input), base) : base
  }
  return proj(product(proj(x).map(Math.tanh), back, OUT, IN))
}

async function run(model: Uint8Array, feeds: Record<string, Tensor> = {}): Promise<Float32Array> {
  const session = await createSession(model)
  const { y } = await session.run({ x: new Tensor('float32', x, [1, TOKENS, IN]), ...feeds })
  await session.release()
  return y?.data as Float32Array
}

function expectNear(received: Float32Array, expectedOutput: Float64Array): void {
  // 11 products and sums before `tanh` and 11 after it each round by 2⁻²⁴ of the largest value; `back` sums 6 values.
  const limit = 22 * 6 * 2 ** -24 * Math.max(...expectedOutput.map(Math.abs))
  expect(received).toHaveLength(expectedOutput.length)
  for (const [i, value] of expectedOutput.entries()) expect(Math.abs(received[i] - value)).toBeLessThan(limit)
}

function calledTwice(model: ReturnType<typeof readModel>): LinearLayer {
  const layers = findLinearLayers(model).filter(({ module }) => module !== 'back')
  expect(layers).toHaveLength(1)
  return layers[0]
}

describe.each(Object.entries(VARIANTS))('%s', (_, variant) => {
  const file = modelCallingTwice(variant)
  const variantBias = variant.biases && bias

  test('is one layer with two products', () => {
    const layer = calledTwice(readModel(file))
    expect(layer.module).toBe(variant.names ? 'group.0.proj' : 'block.proj')
    expect(productsOf(layer)).toHaveLength(2)
    expect(layer.undecided).toBeUndefined()
  })

  test('branches adapt both calls; detaching gives the original bytes', async () => {
    const model = readModel(file)
    const inputs = attachBranches(model, [{ module: 'm', layer: calledTwice(model), entries }])
    const attached = model.toBytes()
    const feed = (values: Float32Array) => ({
      [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
      [inputs.coefficients.get('m') as string]: new Tensor('float32', values, [values.length / 7, 7]),
    })
    expect(await run(attached, feed(new Float32Array(0)))).toEqual(await run(file))
    const scaled = coefficients.map((c) => 30 * c)
    expectNear(await run(attached, feed(scaled)), expected(weight, variantBias, true))
    const again = readModel(attached)
    detachBranches(again)
    expect(again.toBytes()).toEqual(file)
  })

  test('merging changes the shared weight once', async () => {
    const model = readModel(file)
    const names = [...model.graph.initializers.keys()]
    await bakeBranches(model, [{ layer: calledTwice(model), adapters: [adapter] }])
    expect([...model.graph.initializers.keys()]).toEqual(names)
    expectNear(await run(model.toBytes()), expected(weight, variantBias, true))
  })

  test('both calls can be replaced, by inputs and by baking', async () => {
    const other = sines(OUT * IN, 9)
    // PyTorch's `[out, in]`.
    const transposed = Float32Array.from(
      { length: other.length },
      (_, i) => other[(i % IN) * OUT + Math.floor(i / IN)],
    )
    const otherBias = variantBias && sines(OUT, 8)
    const replaced = expected(other, otherBias, false)
    const model = readModel(file)
    const { weights } = attachBranches(model, [], {
      replaceable: [{ module: 'm', layer: calledTwice(model) }],
    })
    const names = weights.get('m')
    const feeds = {
      'fourierft.rows': new Tensor('int64', BigInt64Array.of(0n), [1]),
      [names?.rows as string]: new Tensor('int64', BigInt64Array.of(0n), [1]),
      [names?.weight as string]: new Tensor('float32', other, [1, IN, OUT]),
      ...(names?.bias && { [names.bias]: new Tensor('float32', otherBias as Float32Array, [1, OUT]) }),
    }
    const session = await createSession(model.toBytes())
    const usedFeeds = Object.fromEntries(
      Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)),
    )
    await session.release()
    expectNear(await run(model.toBytes(), usedFeeds), replaced)

    const bakedModel = readModel(file)
    await bakeBranches(bakedModel, [
      { layer: calledTwice(bakedModel), adapters: [], whole: { weight: transposed, bias: otherBias } },
    ])
    expectNear(await run(bakedModel.toBytes()), replaced)
  })
})

test('a head that is called twice can get another width', async () => {
  for (const variant of [VARIANTS['one weight and one bias'], COPIES]) {
    const [first, second] = variant.weights
    const [firstBias, secondBias] = variant.biases as readonly [string, string]
    const call = (name: string, w: string, b: string, input: string, output: string): NewNode[] => [
      { name: `${name}/MatMul`, opType: 'MatMul', inputs: [input, w], outputs: [`${output}_product`] },
      { name: `${name}/Add`, opType: 'Add', inputs: [`${output}_product`, b], outputs: [output] },
    ]
    const file = createModel(
      {
        name: 'main_graph',
        inputs: [{ name: 'x', dataType: DataType.float, dims: ['batch', TOKENS, IN] }],
        outputs: ['y', 'z'].map((name) => ({ name, dataType: DataType.float, dims: ['batch', TOKENS, OUT] })),
        initializers: variant.initializers,
        nodes: [
          { name: '/Neg', opType: 'Neg', inputs: ['x'], outputs: ['negative'] },
          ...call('/block/proj', first, firstBias, 'x', 'y'),
          ...call('/block/proj_1', second, secondBias, 'negative', 'logits'),
          { name: '/Softmax', opType: 'Softmax', inputs: ['logits'], outputs: ['z'] },
        ],
      },
      { opset: 17 },
    ).toBytes()
    const labels = 9
    const whole = { weight: sines(labels * IN, 6), bias: sines(labels, 7) }
    const transposed = Float32Array.from(
      { length: IN * labels },
      (_, i) => whole.weight[(i % labels) * IN + Math.floor(i / labels)],
    )
    const outputs = async (bytes: Uint8Array, feeds: Record<string, Tensor> = {}) => {
      const session = await createSession(bytes)
      const result = await session.run({ x: new Tensor('float32', x, [1, TOKENS, IN]), ...feeds })
      await session.release()
      return ['y', 'z'].map((name) => {
        const { dims, data } = result[name]
        return { dims, values: Array.from(data as Float32Array) }
      })
    }
    const model = readModel(file)
    const replaceable = [{ module: 'm', layer: calledTwice(model), hasFreeWidth: true }]
    const { rows, weights } = attachBranches(model, [], { replaceable })
    const names = weights.get('m')
    const received = await outputs(model.toBytes(), {
      [rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
      [names?.rows as string]: new Tensor('int64', BigInt64Array.of(0n), [1]),
      [names?.weight as string]: new Tensor('float32', transposed, [1, IN, labels]),
      [names?.bias as string]: new Tensor('float32', whole.bias, [1, labels]),
    })
    const again = readModel(model.toBytes())
    detachBranches(again)
    expect(again.toBytes()).toEqual(file)

    const bakedModel = readModel(file)
    await bakeBranches(bakedModel, [{ layer: calledTwice(bakedModel), adapters: [], whole }])
    expect(bakedModel.graph.outputs.map(({ dims }) => dims?.at(-1))).toEqual([labels, labels])
    // The old head is gone.
    for (const { dims } of bakedModel.graph.initializers.values()) expect(dims).toContain(labels)
    const expected = await outputs(bakedModel.toBytes())
    for (const [i, { dims, values }] of expected.entries()) {
      const found = received[i]?.values ?? []
      expect(dims).toEqual([1, TOKENS, labels])
      expect(received[i]?.dims).toEqual(dims)
      // At most 16 roundings, by five products and sums and by Softmax, each by 2⁻²⁴ of a number of at most 5.
      for (const [j, value] of values.entries())
        expect(Math.abs(value - (found[j] ?? Number.NaN))).toBeLessThan(16 * 5 * 2 ** -24)
    }
  }
})

test('reads a bias that Identity copies', async () => {
  const file = modelCallingTwice(VARIANTS['one weight copied by Identity, as PyTorch exports it'])
  const read = await readLayer(calledTwice(readModel(file)), () => new Uint8Array())
  expect(read.bias).toEqual(bias)
})

describe('different modules', () => {
  const modulesOf = (variant: Variant) =>
    findLinearLayers(readModel(modelCallingTwice(variant))).map(({ module }) => module)

  test('have copies that differ in the weight or in the bias', () => {
    const changed = (name: string) =>
      COPIES.initializers.map((tensor) =>
        tensor.name === name ? { ...tensor, data: bytes(sines(tensor.data.length / 4, 7)) } : tensor,
      )
    for (const name of ['onnx::MatMul_9', 'proj.bias_copy'])
      expect(modulesOf({ ...COPIES, initializers: changed(name) })).toEqual([
        'block.proj',
        'back',
        'block.proj_1',
      ])
  })

  test('have quantised weights with equal bytes and different scales', () => {
    for (const opType of ['MatMulNBits', 'MatMulBnb4']) {
      const modelWith = (scales: readonly [string, string]) =>
        createModel(
          {
            name: 'main_graph',
            inputs: [{ name: 'x', dataType: DataType.float, dims: ['batch', 32] }],
            outputs: ['y', 'z'].map((name) => ({ name, dataType: DataType.float, dims: ['batch', 2] })),
            initializers: [
              { name: 'w', dims: [2, 1, 16], dataType: DataType.uint8, data: new Uint8Array(32).fill(3) },
              floats('s', [2], sines(2, 1)),
              floats('t', [2], sines(2, 2)),
            ],
            nodes: scales.map((scale, i) => ({
              name: i === 0 ? '/block/proj/MatMul' : '/block/proj_1/MatMul',
              domain: 'com.microsoft',
              opType,
              inputs: ['x', 'w', scale],
              outputs: [i === 0 ? 'y' : 'z'],
              attributes: Object.fromEntries(
                Object.entries({ K: 32, N: 2, block_size: 32, bits: 4 }).map(([name, int]) => [
                  name,
                  { int },
                ]),
              ),
            })),
          },
          { opset: 17 },
        ).toBytes()
      const found = (scales: readonly [string, string]) =>
        findLinearLayers(readModel(modelWith(scales))).length
      expect(found(['s', 's'])).toBe(1)
      expect(found(['s', 't'])).toBe(2)
    }
  })

  test('may be tied: merging one leaves the other unchanged', async () => {
    const variant: Variant = { ...SHARED, names: ['/block/proj', '/block/tied'] }
    expect(modulesOf(variant)).toEqual(['block.proj', 'back', 'block.tied'])
    const model = readModel(modelCallingTwice(variant))
    const [layer] = findLinearLayers(model)
    await bakeBranches(model, [{ layer, adapters: [adapter] }])
    const again = readModel(model.toBytes())
    const tied = findLinearLayers(again).find(({ module }) => module === 'block.tied')
    expect(again.graph.initializers.get(tied?.weight ?? '')?.data()).toEqual(bytes(weight))
  })

  test('an unnamed product with the same weight may be another call: matching the module then requires a list of its nodes', () => {
    const layers = findLinearLayers(
      readModel(modelCallingTwice({ ...SHARED, names: ['/block/proj', 'fused'] })),
    )
    const reason = 'other products may be calls of the same module: name all of its nodes in a list'
    expect(matchLayers(layers, ['block.proj']).unmatched).toEqual([
      { module: 'block.proj', reason, candidates: ['/block/proj/MatMul', 'fused/MatMul'] },
    ])
    const list = ['/block/proj/MatMul', 'fused/MatMul']
    const { matched } = matchLayers(layers, ['block.proj'], { map: { 'block.proj': list } })
    expect(productsOf(matched.get('block.proj') as LinearLayer).map(({ node }) => node.name)).toEqual(list)
    const onlyOne = { 'block.proj': ['/block/proj/MatMul'] }
    const single = matchLayers(layers, ['block.proj'], { map: onlyOne }).matched.get('block.proj')
    expect(productsOf(single as LinearLayer)).toHaveLength(1)
    expect([single?.outFeatures, single?.inFeatures]).toEqual([OUT, IN])
  })

  test('products without names get the module name of a bias that only they read', () => {
    const variant: Variant = {
      weights: ['val_7', 'val_7'],
      biases: ['block.proj.bias', 'block.proj.bias'],
      names: ['node_1', 'node_2'],
      initializers: [floats('val_7', [IN, OUT], weight), floats('block.proj.bias', [OUT], bias)],
    }
    const layers = findLinearLayers(readModel(modelCallingTwice(variant)))
    expect(layers.map((layer) => [layer.module, productsOf(layer).length, layer.undecided])).toEqual([
      ['block.proj', 2, undefined],
      ['back', 1, undefined],
    ])
    const separate = findLinearLayers(
      readModel(
        modelCallingTwice({
          ...variant,
          biases: ['block.proj.bias', 'other.bias'],
          initializers: [...variant.initializers, floats('other.bias', [OUT], bias)],
        }),
      ),
    )
    expect(separate.map(({ module }) => module)).toEqual(['block.proj', 'back', 'other'])
  })

  test('rejects a list with a node of another shape, or with a node that is not a layer', () => {
    const layers = findLinearLayers(readModel(modelCallingTwice(SHARED)))
    const map = (nodes: string[]) =>
      matchLayers(layers, ['m'], { map: { m: nodes } }).unmatched.map(({ reason }) => reason)
    expect(map(['/block/proj/MatMul', '/back/MatMul'])).toEqual(['several layers have this name'])
    expect(map(['/block/proj/MatMul', '/nothing/MatMul'])).toEqual([
      'the map names a node that is not one of the layers',
    ])
  })
})

describe('external copies', () => {
  const stored = { a: bytes(weight), b: bytes(weight) }
  function external(): ReturnType<typeof readModel> {
    const model = readModel(modelCallingTwice({ ...COPIES, biases: ['proj.bias', 'proj.bias'] }))
    for (const [name, location] of [
      ['onnx::MatMul_7', 'a'],
      ['onnx::MatMul_9', 'b'],
    ] as const)
      model.graph.initializers.get(name)?.setData({ location, offset: 0, length: 4 * weight.length })
    return model
  }
  const read = (files: Record<string, Uint8Array>) => (location: string, offset: number, length: number) =>
    files[location].subarray(offset, offset + length)

  test('are compared in their files', async () => {
    const layers = findLinearLayers(external())
    const { unmatched } = matchLayers(layers, ['block.proj'])
    expect(unmatched.map(({ candidates }) => candidates)).toEqual([
      ['/block/proj/MatMul', '/block/proj_1/MatMul'],
    ])
    const [layer, , ...others] = await decideProducts(layers, read(stored))
    expect(others).toEqual([])
    expect(productsOf(layer)).toHaveLength(2)
    const different = await decideProducts(layers, read({ ...stored, b: bytes(back) }))
    expect(different.map(({ module, undecided }) => [module, undecided])).toEqual([
      ['block.proj', undefined],
      ['back', undefined],
      ['block.proj_1', undefined],
    ])
  })
})

describe('quantised', () => {
  const integers = (name: string, data: Uint8Array, dims: readonly number[] = []) => ({
    name,
    dims,
    dataType: DataType.uint8,
    data,
  })
  const codes = Uint8Array.from({ length: IN * OUT }, (_, i) => (37 * i) % 251)

  /** Two calls as ONNX Runtime's dynamic quantiser writes them; the second one reads the weight `second`. */
  function dynamic(second: string): LinearLayer[] {
    const call = (name: string, w: string, input: string, output: string): NewNode[] => {
      const o = (part: string) => `${output}.${part}`
      return [
        { opType: 'DynamicQuantizeLinear', inputs: [input], outputs: [o('q'), o('scale'), o('zero')] },
        {
          name: `${name}/MatMul_quant`,
          opType: 'MatMulInteger',
          inputs: [o('q'), w, o('zero'), 'w_zero'],
          outputs: [o('int')],
        },
        { opType: 'Mul', inputs: [o('scale'), 'w_scale'], outputs: [o('both')] },
        { opType: 'Cast', inputs: [o('int')], outputs: [o('float')], attributes: { to: { int: 1 } } },
        { opType: 'Mul', inputs: [o('float'), o('both')], outputs: [output] },
      ]
    }
    const model = createModel(
      {
        name: 'main_graph',
        inputs: [{ name: 'x', dataType: DataType.float, dims: ['batch', IN] }],
        outputs: [{ name: 'y', dataType: DataType.float, dims: ['batch', OUT] }],
        initializers: [
          integers('w_quantized', codes, [IN, OUT]),
          integers('copy_quantized', codes, [IN, OUT]),
          integers('other_quantized', codes.toReversed(), [IN, OUT]),
          integers('w_zero', Uint8Array.of(128)),
          floats('w_scale', [], Float32Array.of(0.01)),
          floats('back', [OUT, IN], back),
        ],
        nodes: [
          ...call('/block/proj', 'w_quantized', 'x', 'u'),
          { name: '/back/MatMul', opType: 'MatMul', inputs: ['u', 'back'], outputs: ['w'] },
          ...call('/block/proj_1', second, 'w', 'y'),
        ],
      },
      { opset: 17 },
    )
    return findLinearLayers(readModel(model.toBytes()))
  }

  test.each(['w_quantized', 'copy_quantized'])(
    'a second call with the weight %s is the same layer',
    (second) => {
      expect(dynamic(second).map((layer) => [layer.module, productsOf(layer).length])).toEqual([
        ['block.proj', 2],
        ['back', 1],
      ])
    },
  )

  test('a call with another weight is another module', () => {
    expect(dynamic('other_quantized').map(({ module }) => module)).toEqual([
      'block.proj',
      'back',
      'block.proj_1',
    ])
  })

  test('leaves undecided whether a quantised and a float product are calls of one module', () => {
    const nodes: NewNode[] = [
      {
        name: '/block/proj/MatMul_Q4',
        opType: 'MatMulNBits',
        domain: 'com.microsoft',
        inputs: ['x', 'packed', 'scales'],
        outputs: ['u'],
        attributes: { K: { int: 16 }, N: { int: 16 }, bits: { int: 4 }, block_size: { int: 16 } },
      },
      { name: '/block/proj_1/MatMul', opType: 'MatMul', inputs: ['u', 'w'], outputs: ['y'] },
    ]
    const model = createModel(
      {
        name: 'main_graph',
        inputs: [{ name: 'x', dataType: DataType.float, dims: ['batch', 16] }],
        outputs: [{ name: 'y', dataType: DataType.float, dims: ['batch', 16] }],
        initializers: [
          integers('packed', new Uint8Array(128), [16, 1, 8]),
          floats('scales', [16], sines(16, 1)),
          floats('w', [16, 16], sines(256, 1)),
        ],
        nodes,
      },
      { opset: 17 },
    )
    const layers = findLinearLayers(readModel(model.toBytes()))
    expect(matchLayers(layers, ['block.proj']).unmatched[0]?.candidates).toEqual([
      '/block/proj/MatMul_Q4',
      '/block/proj_1/MatMul',
    ])
  })
})

test('the parts of a packed module that is called twice have two products each', () => {
  const call = (i: '' | '_1', input: string, output: string): NewNode[] => [
    {
      name: `/attn/qkv_proj${i}/MatMul`,
      opType: 'MatMul',
      inputs: [input, 'w'],
      outputs: [`${output}_qkv`],
    },
    {
      opType: 'Split',
      inputs: [`${output}_qkv`],
      outputs: [output, `${output}_k`, `${output}_v`],
      attributes: { axis: { int: -1 }, split: { ints: [4, 4, 4] } },
    },
  ]
  const model = createModel(
    {
      name: 'main_graph',
      inputs: [{ name: 'x', dataType: DataType.float, dims: ['batch', TOKENS, 4] }],
      outputs: [{ name: 'y', dataType: DataType.float, dims: ['batch', TOKENS, 4] }],
      initializers: [floats('w', [4, 12], sines(48, 1))],
      nodes: [...call('', 'x', 'u'), ...call('_1', 'u', 'y')],
    },
    { opset: 12 },
  )
  const parts = findPackedLayers(readModel(model.toBytes()))
  expect(parts.map((part) => [part.module, productsOf(part).map(({ node }) => node.name)])).toEqual(
    ['q', 'k', 'v'].map((name) => [
      `attn.${name}_proj`,
      ['/attn/qkv_proj/MatMul', '/attn/qkv_proj_1/MatMul'],
    ]),
  )
})

test.each([
  ['with one name', () => 'proj', 32],
  ['whose names differ by a number', (i: number) => (i === 0 ? 'proj' : `proj_${i}`), 1],
])('compares few pairs of many layers %s', (_, nameOf, comparisonsPerLayer) => {
  const count = 300
  const model = createModel(
    {
      name: 'main_graph',
      inputs: [{ name: 'x', dataType: DataType.float, dims: ['batch', 2] }],
      outputs: Array.from({ length: count }, (_, i) => ({ name: `y${i}` })),
      initializers: Array.from({ length: count }, (_, i) => floats(`w${i}`, [2, 2], sines(4, i))),
      nodes: Array.from({ length: count }, (_, i) => ({
        name: `/block/${nameOf(i)}/MatMul`,
        opType: 'MatMul',
        inputs: ['x', `w${i}`],
        outputs: [`y${i}`],
      })),
    },
    { opset: 17 },
  )
  const layers = findLinearLayers(readModel(model.toBytes()))
  expect(layers).toHaveLength(count)
  let compared = 0
  joinProducts(layers, () => {
    compared++
    return false
  })
  expect(compared).toBeLessThanOrEqual(comparisonsPerLayer * count)
})

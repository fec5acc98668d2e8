/** Prepared models give the same bits as the models that they were, without choices and functions between the targets and the outputs. */
import { FourierFTError, uniformEntries } from '@fourierft/core'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { modelBytes } from '../../__fixtures__/model-files.js'
import { createSession } from '../../__fixtures__/onnx-runtime.js'
import { attachBranches } from '../../attach/attach.js'
import type { LinearLayer } from '../../layers/linear-layer.js'
import { findLinearLayers } from '../../layers/linear-layers.js'
import { findPackedLayers } from '../../layers/packed-layers.js'
import { createModel } from '../../model/create-model.js'
import type { NewAttribute, NewFunction, NewGraph, NewNode } from '../../model/encode.js'
import { type OnnxModel, readModel } from '../../model/model.js'
import { DataType } from '../../model/schema.js'
import { floats, integers } from '../__fixtures__/check-gradient.js'
import { prepareTraining } from './prepare-training.js'

type Feeds = Record<string, Tensor>

async function resultsOf(
  model: OnnxModel | Uint8Array,
  feeds: Feeds,
): Promise<InferenceSession.OnnxValueMapType> {
  const session = await createSession(model instanceof Uint8Array ? model : model.toBytes())
  const fed = Object.fromEntries(session.inputNames.map((name) => [name, feeds[name]]))
  const results = await session.run(fed)
  await session.release()
  return results
}

const operatorsOf = ({ graph }: OnnxModel) =>
  graph.graphs().flatMap(({ nodes }) => nodes.map(({ opType }) => opType))
const inputsOf = ({ graph }: OnnxModel) => graph.inputs.map(({ name }) => name)

function codeOf(act: () => void): readonly [code: unknown, message: string] {
  try {
    act()
    return [undefined, '']
  } catch (error) {
    return [FourierFTError.isInstance(error) && error.code, String(error)]
  }
}

const x = new Tensor('float32', [1, -2, 3, 4], [2, 2])
const value = (name: string, dims: readonly (number | string)[] = ['a', 2]) => ({
  name,
  dataType: DataType.float,
  dims,
})
const flag = (name: string) => ({ name, dataType: DataType.bool, dims: [1] })
const weight = (name: string, ...data: number[]) => floats(name, { dims: [data.length], data }, true)
const node = (
  opType: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Readonly<Record<string, NewAttribute>> = {},
): NewNode => ({ name: `the ${opType} of ${outputs.join(', ')}`, opType, inputs, outputs, attributes })

function choice(condition: string, outputs: readonly string[], yes: Body, no: Body): NewNode {
  const graph = ({ nodes, results, initializers = [] }: Body, name: string) => ({
    graph: { name, nodes, outputs: results.map((result) => ({ name: result })), initializers },
  })
  return node('If', [condition], outputs, { then_branch: graph(yes, 'yes'), else_branch: graph(no, 'no') })
}

interface Body {
  readonly nodes: readonly NewNode[]
  readonly results: readonly string[]
  readonly initializers?: NewGraph['initializers']
}

function modelOf(nodes: readonly NewNode[], graph: Partial<NewGraph> = {}): OnnxModel {
  return createModel(
    { name: 'main', nodes, inputs: [value('x')], outputs: [{ name: 'y' }], ...graph },
    { opset: 17, file: 'model.onnx' },
  )
}

const truth = (name: string, isTrue: boolean) =>
  node('Constant', [], [name], {
    value: { tensor: { dims: [], dataType: DataType.bool, data: Uint8Array.of(isTrue ? 1 : 0) } },
  })
const adding = (initializer: string, result: string): Body => ({
  nodes: [node('Add', ['x', initializer], ['sum']), node('Mul', ['sum', initializer], [result])],
  results: [result],
  initializers: [weight(initializer, 3, 5)],
})
const negating: Body = { nodes: [node('Neg', ['x'], ['negative'])], results: ['negative'] }

/** Prepares the model for the target x, and compares its outputs with those of the original. */
async function expectSame(create: () => OnnxModel, feeds: Feeds = { x }): Promise<OnnxModel> {
  const prepared = create()
  prepareTraining(prepared, { targets: ['x'] })
  expect(operatorsOf(prepared)).not.toContain('If')
  expect(await resultsOf(readModel(prepared.toBytes()), feeds)).toEqual(await resultsOf(create(), feeds))
  return prepared
}

describe('a choice with a known condition', () => {
  test.each([true, false])('is replaced by the graph that a constant selects: %s', async (isTrue) => {
    await expectSame(() => modelOf([truth('c', isTrue), choice('c', ['y'], adding('w', 'r'), negating)]))
  })

  test.each([1, 2])(
    'is replaced by the graph that follows from shapes: is axis %s of size 1?',
    async (axis) => {
      const squeezed: Body = { nodes: [node('ReduceSum', ['x', 'axis'], ['less'])], results: ['less'] }
      const kept: Body = { nodes: [node('Identity', ['x'], ['same'])], results: ['same'] }
      const create = () =>
        modelOf(
          [
            node('Shape', ['x'], ['shape']),
            node('Gather', ['shape', 'axis'], ['size']),
            node('Equal', ['size', 'one'], ['isOne']),
            choice('isOne', ['z'], squeezed, kept),
            node('Neg', ['z'], ['y']),
          ],
          {
            inputs: [value('x', ['a', 2, 1])],
            initializers: [integers('axis', [axis]), integers('one', [1])],
          },
        )
      await expectSame(create, { x: new Tensor('float32', [1, -2, 3, 4], [2, 2, 1]) })
    },
  )

  test('keeps values apart that have one name in several graphs', async () => {
    const create = () =>
      modelOf([
        truth('c', true),
        choice('c', ['p'], adding('w', 'r'), negating),
        choice('c', ['q'], adding('w', 'r'), adding('w', 'r')),
        node('Sub', ['p', 'q'], ['d']),
        node('Add', ['d', 'q'], ['y']),
      ])
    const prepared = await expectSame(create)
    expect([...prepared.graph.initializers.keys()].sort()).toEqual(['w', 'w.2'])
  })

  test('replaces choices inside choices, which read values of the graphs around them', async () => {
    const inner = choice(
      'c',
      ['deep'],
      { nodes: [node('Mul', ['sum', 'w'], ['product'])], results: ['product'] },
      negating,
    )
    const outer: Body = {
      nodes: [node('Add', ['x', 'w'], ['sum']), inner],
      results: ['deep'],
      initializers: [weight('w', 3, 5)],
    }
    const create = () =>
      modelOf([
        truth('c', true),
        choice('c', ['p'], outer, negating),
        choice('c', ['q'], outer, negating),
        node('Sub', ['p', 'q'], ['d']),
        node('Add', ['d', 'p'], ['y']),
      ])
    await expectSame(create)
  })

  test('renames values in graphs that stay inside the moved nodes', async () => {
    // The inner choice does not change with x.
    const inner = choice(
      'free',
      ['deep'],
      { nodes: [node('Mul', ['w', 'w'], ['product'])], results: ['product'] },
      { nodes: [node('Neg', ['w'], ['negative'])], results: ['negative'] },
    )
    const outer: Body = {
      nodes: [inner, node('Add', ['x', 'deep'], ['sum'])],
      results: ['sum'],
      initializers: [weight('w', 3, 5)],
    }
    const create = () =>
      modelOf(
        [
          truth('c', true),
          choice('c', ['p'], outer, negating),
          choice('c', ['q'], outer, negating),
          node('Sub', ['p', 'w'], ['d']),
          node('Add', ['d', 'q'], ['y']),
        ],
        { inputs: [value('x'), flag('free')], initializers: [weight('w', 7, 11)] },
      )
    const prepared = create()
    prepareTraining(prepared, { targets: ['x'] })
    expect(operatorsOf(prepared).filter((name) => name === 'If')).toHaveLength(2)
    for (const isFree of [true, false]) {
      const feeds = { x, free: new Tensor('bool', [isFree], [1]) }
      expect(await resultsOf(prepared, feeds)).toEqual(await resultsOf(create(), feeds))
    }
  })

  test('copies outputs that are initializers, or one value twice', async () => {
    const twice: Body = {
      nodes: [node('Add', ['x', 'w'], ['sum'])],
      results: ['sum', 'sum', 'w'],
      initializers: [weight('w', 3, 5)],
    }
    const other: Body = { nodes: [node('Neg', ['x'], ['n'])], results: ['n', 'n', 'n'] }
    const prepared = modelOf([
      truth('c', true),
      choice('c', ['p', 'q', 'r'], twice, other),
      node('Sum', ['p', 'q', 'r'], ['y']),
    ])
    prepareTraining(prepared, { targets: ['x'] })
    // 2·(x + w) + w. ONNX Runtime does not run the original.
    expect((await resultsOf(prepared, { x })).y.data).toEqual(Float32Array.of(11, 11, 15, 23))
  })
})

describe('a choice whose condition is an input', () => {
  test('is rejected by the name of its node, and the model does not change', () => {
    const create = () =>
      modelOf([choice('free', ['z'], adding('w', 'r'), negating), node('Neg', ['z'], ['y'])], {
        inputs: [value('x'), flag('free')],
      })
    const model = create()
    const [code, message] = codeOf(() => prepareTraining(model, { targets: ['x'] }))
    expect(code).toBe('UNSUPPORTED')
    expect(message).toContain(
      'model.onnx: node "the If of z" (If) chooses between two graphs when the model runs',
    )
    expect(model.toBytes()).toEqual(create().toBytes())
  })

  test('stays if it does not change with the targets', async () => {
    const create = () =>
      modelOf([choice('free', ['z'], adding('w', 'r'), negating), node('Mul', ['z', 't'], ['y'])], {
        inputs: [value('x'), value('t'), flag('free')],
      })
    const model = create()
    prepareTraining(model, { targets: ['t'] })
    expect(model.toBytes()).toEqual(create().toBytes())
  })

  test('takes the graph without a cache if it is that of a merged decoder, and the inputs of the cache are removed', async () => {
    const cached: Body = {
      nodes: [
        node('Concat', ['past_key_values.0.key', 'x'], ['keys'], { axis: { int: 0 } }),
        node('Neg', ['keys'], ['all']),
      ],
      results: ['all', 'keys'],
    }
    const fresh: Body = {
      nodes: [node('Identity', ['x'], ['keys']), node('Neg', ['keys'], ['all'])],
      results: ['all', 'keys'],
    }
    const past = 'past_key_values.0.key'
    const create = () =>
      modelOf([choice('use_cache_branch', ['logits', 'present.0.key'], cached, fresh)], {
        inputs: [value('x'), value(past), flag('use_cache_branch')],
        outputs: [value('logits'), value('present.0.key')],
      })
    const feeds = {
      x,
      [past]: new Tensor('float32', [9, 9], [1, 2]),
      use_cache_branch: new Tensor('bool', [false], [1]),
    }
    const prepared = await expectSame(create, feeds)
    expect(inputsOf(prepared)).toEqual(['x'])
  })
})

const ids = new Tensor(
  'int64',
  BigInt64Array.from({ length: 16 }, (_, i) => BigInt((3 * i + 1) % 20)),
  [2, 8],
)
const mask = new Tensor(
  'int64',
  BigInt64Array.from({ length: 16 }, (_, i) => (i < 13 ? 1n : 0n)),
  [2, 8],
)
const N = 5

const entriesFor = ({ outFeatures, inFeatures }: LinearLayer) =>
  uniformEntries({ shape: [outFeatures, inFeatures], n: N, seed: 3 })

function coefficientFeeds(coefficients: ReadonlyMap<string, string>, rows: string): Feeds {
  const feeds: Feeds = { [rows]: new Tensor('int64', [0n, 0n], [2]) }
  for (const [i, input] of [...coefficients.values()].entries()) {
    // The last row is that of no adapter.
    const numbers = Float32Array.from({ length: 2 * N }, (_, k) => (k < N ? 20 * Math.sin(2.3 * k + i) : 0))
    feeds[input] = new Tensor('float32', numbers, [2, N])
  }
  return feeds
}

describe('the choices of attachBranches', () => {
  test.each([
    ['bert-fused', { x: ids, mask }],
    ['gpt2-fused', { x: ids }],
  ] as [string, Feeds][])('%s: an attention keeps its branches', async (name, base) => {
    const attached = readModel(modelBytes(name))
    const layers = findPackedLayers(attached).filter(({ part }) => part)
    const inputs = attachBranches(
      attached,
      layers.map((layer, i) => ({ module: `m${i}`, layer, entries: entriesFor(layer) })),
    )
    const feeds = { ...base, ...coefficientFeeds(inputs.coefficients, inputs.rows) }
    const expected = await resultsOf(attached, feeds)
    expect(operatorsOf(attached)).toContain('If')
    prepareTraining(attached, { targets: [...inputs.coefficients.values()] })
    expect(operatorsOf(attached)).not.toContain('If')
    expect(await resultsOf(attached, feeds)).toEqual(expected)
    expect(await resultsOf(modelBytes(name), base)).not.toEqual(expected)
  })

  test.each([true, false])(
    'a replaceable layer takes the replacement only if it is a target: %s',
    async (isTarget) => {
      const attached = readModel(modelBytes('bert-torchscript'))
      const layers = findLinearLayers(attached)
      const head = layers.find(({ module }) => module?.endsWith('classifier')) as LinearLayer
      const query = layers.find(({ module }) => module?.endsWith('query')) as LinearLayer
      const inputs = attachBranches(
        attached,
        [{ module: 'query', layer: query, entries: entriesFor(query) }],
        {
          replaceable: [{ module: 'head', layer: head }],
        },
      )
      const { weight: matrix, bias = '', rows } = inputs.weights.get('head') ?? { weight: '', rows: '' }
      const { inFeatures, outFeatures } = head
      const heads = isTarget ? 1 : 0
      const numbers = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(i))
      const feeds = {
        x: new Tensor('int64', ids.data.slice(0, 8) as BigInt64Array, [1, 8]),
        ...coefficientFeeds(inputs.coefficients, inputs.rows),
        [matrix]: new Tensor('float32', numbers(heads * inFeatures * outFeatures), [
          heads,
          inFeatures,
          outFeatures,
        ]),
        [bias]: new Tensor('float32', numbers(heads * outFeatures), [heads, outFeatures]),
        [rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
      }
      const expected = await resultsOf(attached, feeds)
      const coefficients = [...inputs.coefficients.values()]
      prepareTraining(attached, { targets: [...coefficients, ...(isTarget ? [matrix, bias] : [])] })
      expect(operatorsOf(attached)).not.toContain('If')
      expect(inputsOf(attached).includes(matrix)).toBe(isTarget)
      expect(await resultsOf(attached, feeds)).toEqual(expected)
    },
  )
})

test('a model that cannot be prepared does not change', () => {
  const statistics = ['y', 'mean', 'variance', 'savedMean', 'savedVariance']
  const create = () => {
    const model = createModel(
      {
        name: 'main',
        nodes: [
          truth('c', true),
          choice('c', ['p'], adding('w', 'r'), negating),
          choice('c', ['q'], adding('w', 'r'), negating),
          { ...node('Negated', ['p'], ['negated']), domain: 'local' },
          node('Sub', ['negated', 'q'], ['d']),
          node('Squeeze', ['d'], ['s'], { axes: { ints: [2] } }),
          node('BatchNormalization', ['s', 'w', 'w', 'w', 'w'], statistics),
        ],
        inputs: [value('x', ['a', 2, 1])],
        outputs: [{ name: 'y' }],
        initializers: [weight('w', 1, 1)],
      },
      { opset: 11 },
    )
    model.addOpsetImport('local', 1)
    model.addFunction({
      domain: 'local',
      name: 'Negated',
      inputs: ['v'],
      outputs: ['n'],
      nodes: [node('Neg', ['v'], ['n'])],
      opsetImports: new Map([['', 11]]),
    })
    return readModel(model.toBytes())
  }
  const model = create()
  const [code, message] = codeOf(() => prepareTraining(model, { targets: ['x'] }))
  expect(code).toBe('UNSUPPORTED')
  expect(message).toContain('(BatchNormalization) computes the statistics of the batch')
  expect(model.toBytes()).toEqual(create().toBytes())
  expect(model.graph.nodes.map(({ opType }) => opType)).toEqual(
    create().graph.nodes.map(({ opType }) => opType),
  )
  expect(model.graph.nodes.map(({ inputs }) => inputs)).toEqual(
    create().graph.nodes.map(({ inputs }) => inputs),
  )
})

describe('functions', () => {
  const reference = (name: string): NewAttribute => ({ reference: name, type: 'float' })
  const scaled: NewFunction = {
    domain: 'local',
    name: 'Scaled',
    inputs: ['v', 'offset'],
    outputs: ['result', 'kept'],
    attributes: ['slope'],
    defaults: { cut: { float: 0.5 } },
    nodes: [
      node('LeakyRelu', ['v'], ['leaky'], { alpha: reference('slope') }),
      node('ThresholdedRelu', ['leaky'], ['cutOff'], { alpha: reference('cut') }),
      node('Clip', ['cutOff', 'offset'], ['result']),
      node('Identity', ['leaky'], ['kept']),
    ],
    opsetImports: new Map([['', 17]]),
  }
  const outer: NewFunction = {
    domain: 'local',
    name: 'Outer',
    inputs: ['v'],
    outputs: ['leaky', 'copy'],
    nodes: [
      { ...node('Scaled', ['v'], ['inner', 'unread'], { slope: { float: 0.25 } }), domain: 'local' },
      node('Identity', ['v'], ['copy']),
      truth('c', true),
      choice(
        'c',
        ['leaky'],
        { nodes: [node('Add', ['inner', 'v'], ['sum'])], results: ['sum'] },
        { nodes: [node('Neg', ['inner'], ['negative'])], results: ['negative'] },
      ),
    ],
    opsetImports: new Map([
      ['', 17],
      ['local', 1],
    ]),
  }

  function modelWith(
    nodes: readonly NewNode[],
    functions: readonly NewFunction[] = [scaled, outer],
  ): OnnxModel {
    const model = modelOf(nodes, { initializers: [floats('low', { dims: [], data: [-0.25] }, true)] })
    model.addOpsetImport('local', 1)
    for (const one of functions) model.addFunction(one)
    // A model that is read from a file has a limit for its number of nodes.
    return readModel(model.toBytes())
  }

  const call = (
    name: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes = {},
  ): NewNode => ({
    ...node(name, inputs, outputs, attributes),
    domain: 'local',
  })

  test.each([
    ['a call', [call('Scaled', ['x', 'low'], ['y', 'k'], { slope: { float: 0.5 } })]],
    ['a call without optional inputs and attributes', [call('Scaled', ['x'], ['y', 'k'])]],
    ['a value for a default', [call('Scaled', ['x'], ['y', 'k'], { cut: { float: 3.5 } })]],
    [
      'two calls',
      [
        call('Scaled', ['x', 'low'], ['p', 'k'], { slope: { float: 0.5 } }),
        call('Scaled', ['p'], ['q', 'leaky'], { slope: { float: 2 } }),
        node('Sum', ['q', 'k', 'leaky'], ['y']),
      ],
    ],
    ['a function that calls another one', [call('Outer', ['x'], ['p', 'q']), node('Add', ['p', 'q'], ['y'])]],
    [
      'a value with the name of one inside the function',
      [call('Outer', ['x'], ['sum', 'q']), node('Add', ['sum', 'q'], ['y'])],
    ],
    [
      'a call inside a graph of a node',
      [
        truth('c', true),
        choice(
          'c',
          ['y'],
          { nodes: [call('Outer', ['x'], ['p', 'q'])], results: ['p'] },
          { nodes: [node('Neg', ['x'], ['n'])], results: ['n'] },
        ),
      ],
    ],
  ] as [string, NewNode[]][])('are replaced by their bodies: %s', async (_, nodes) => {
    const prepared = await expectSame(() => modelWith(nodes))
    expect(prepared.functions).toEqual([])
    expect(prepared.graph.nodes.filter(({ domain }) => domain === 'local')).toEqual([])
  })

  test('may return their inputs', async () => {
    const pass: NewFunction = { ...scaled, name: 'Pass', inputs: ['v'], outputs: ['v'], nodes: [] }
    const prepared = modelWith([call('Pass', ['x'], ['z']), node('Neg', ['z'], ['y'])], [pass])
    prepareTraining(prepared, { targets: ['x'] })
    expect((await resultsOf(prepared, { x })).y.data).toEqual(Float32Array.of(-1, 2, -3, -4))
  })

  test('that call themselves are rejected', () => {
    const endless: NewFunction = { ...scaled, nodes: [call('Scaled', ['v'], ['result', 'kept'])] }
    const [code, message] = codeOf(() =>
      prepareTraining(modelWith([call('Scaled', ['x'], ['y'])], [endless]), { targets: ['x'] }),
    )
    expect(code).toBe('INVALID_ONNX')
    expect(message).toContain('call each other more than 64 deep')
  })

  test('that multiply beyond all bounds are rejected', () => {
    const doubling = Array.from(
      { length: 40 },
      (_, i): NewFunction => ({
        ...scaled,
        name: `F${i}`,
        inputs: ['v'],
        outputs: ['result'],
        nodes: [
          call(`F${i + 1}`, ['v'], ['half']),
          call(`F${i + 1}`, ['half'], ['sum']),
          // Reaches the limit sooner.
          node(
            'Sum',
            Array.from({ length: 1000 }, () => 'sum'),
            ['result'],
          ),
        ],
      }),
    )
    const last = { ...scaled, name: 'F40', inputs: ['v'], outputs: ['r'], nodes: [node('Neg', ['v'], ['r'])] }
    const [code] = codeOf(() =>
      prepareTraining(modelWith([call('F0', ['x'], ['y'])], [...doubling, last]), { targets: ['x'] }),
    )
    expect(code).toBe('INVALID_ONNX')
  })

  test('of another opset are rejected by name', () => {
    const other = { ...scaled, opsetImports: new Map([['', 13]]) }
    const [code, message] = codeOf(() =>
      prepareTraining(modelWith([call('Scaled', ['x'], ['y'])], [other]), { targets: ['x'] }),
    )
    expect(code).toBe('UNSUPPORTED')
    expect(message).toContain('the function local:Scaled uses version 13 of the operator set ""')
  })
})

/** The search for the constant weight of a product, and the functions that use it. */
import { describe, expect, test } from 'vitest'
import { attachBranches } from '../attach/attach.js'
import { bakeBranches } from '../attach/bake.js'
import { createModel } from '../model/create-model.js'
import type { NewAttribute, NewNode } from '../model/encode.js'
import { readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { activationType } from './activation-type.js'
import type { LinearLayer } from './linear-layer.js'
import { findLinearLayers } from './linear-layers.js'
import { readLayer } from './read-layer.js'
import { MAX_WEIGHT_NODES, weightPath } from './weight-path.js'

const [IN, OUT] = [2, 3]
/** `[out, in]`. */
const WEIGHT = Float32Array.of(1, 2, 3, 4, 5, 6)

const node = (
  opType: string,
  inputs: readonly string[],
  output: string,
  attributes: Record<string, NewAttribute> = {},
): NewNode => ({ opType, inputs, outputs: [output], attributes })

/** A model of `nodes`, which read `w` `[out, in]` and write `t`, and a product that reads `t`. */
function modelOf(nodes: readonly NewNode[], product = node('MatMul', ['x', 't'], 'y')) {
  const model = createModel(
    {
      name: 'main',
      nodes: [...nodes, product],
      inputs: [
        { name: 'x', dataType: DataType.float, dims: ['batch', IN] },
        { name: 'c', dataType: DataType.bool, dims: [] },
      ],
      outputs: [{ name: 'y', dataType: DataType.float, dims: ['batch', OUT] }],
      initializers: [
        {
          name: 'w',
          dims: [OUT, IN],
          dataType: DataType.float,
          data: new Uint8Array(WEIGHT.slice().buffer),
        },
      ],
    },
    { opset: 17 },
  )
  return readModel(model.toBytes())
}

/** Returns a transposition and `count` − 1 copies. */
function chain(count: number): NewNode[] {
  const name = (i: number) => (i === count - 1 ? 't' : `v${i}`)
  return Array.from({ length: count }, (_, i) =>
    node(i === 0 ? 'Transpose' : 'Identity', [i === 0 ? 'w' : name(i - 1)], name(i)),
  )
}

const noExternalData = () => {
  throw new Error('nothing is external')
}

const REPLACEMENT = { weight: WEIGHT.map((value) => -value) }

/** Reads the layer, replaces its weight and attaches to it. */
async function useLayer(nodes: readonly NewNode[], product?: NewNode) {
  const [layer] = findLinearLayers(modelOf(nodes, product)) as [LinearLayer]
  const read = await readLayer(layer, noExternalData)
  const bakedModel = modelOf(nodes, product)
  const [bakedLayer] = findLinearLayers(bakedModel) as [LinearLayer]
  await bakeBranches(bakedModel, [{ layer: bakedLayer, adapters: [], whole: REPLACEMENT }])
  const [again] = findLinearLayers(readModel(bakedModel.toBytes())) as [LinearLayer]
  const attached = modelOf(nodes, product)
  const [replaceable] = findLinearLayers(attached) as [LinearLayer]
  attachBranches(attached, [], { replaceable: [{ module: 'm', layer: replaceable }] })
  return { layer, read: read.weight, replaced: (await readLayer(again, noExternalData)).weight }
}

describe('a weight with the largest number of nodes before the product', () => {
  test('can be found, read, replaced and attached to', async () => {
    const { layer, read, replaced } = await useLayer(chain(MAX_WEIGHT_NODES))
    expect([layer.outFeatures, layer.inFeatures, layer.weight]).toEqual([OUT, IN, 'w'])
    expect(read).toEqual(WEIGHT)
    expect(replaced).toEqual(REPLACEMENT.weight)
  })

  test('has the type of the cast that is farthest from the product', () => {
    const nodes = chain(MAX_WEIGHT_NODES - 1)
    const cast = node('Cast', ['w'], 'cast', { to: { int: DataType.float16 } })
    const [first, ...others] = nodes as [NewNode, ...NewNode[]]
    const [layer] = findLinearLayers(modelOf([cast, { ...first, inputs: ['cast'] }, ...others]))
    expect(layer && activationType(layer)).toBe(DataType.float16)
  })

  test('is not found with one more node', () => {
    expect(findLinearLayers(modelOf(chain(MAX_WEIGHT_NODES + 1)))).toEqual([])
  })
})

test('a subgraph sees the nodes of its enclosing graphs', async () => {
  const product = node('If', ['c'], 'y', {
    then_branch: {
      graph: { name: 'then', nodes: [node('MatMul', ['x', 't'], 'a')], outputs: [{ name: 'a' }] },
    },
    else_branch: {
      graph: { name: 'else', nodes: [node('Identity', ['y0'], 'b')], outputs: [{ name: 'b' }] },
    },
  })
  const nodes = [...chain(2), node('MatMul', ['x', 't'], 'y0')]
  const model = modelOf(nodes, product)
  const layers = findLinearLayers(model)
  expect(layers.map(({ graph, weight }) => [graph.path.split('.').at(-1), weight])).toEqual([
    ['', 'w'],
    ['then_branch', 'w'],
  ])
  for (const layer of layers) expect((await readLayer(layer, noExternalData)).weight).toEqual(WEIGHT)
  const path = weightPath(layers[1]?.graph ?? model.graph, 't')
  expect(path?.values.map(({ graph, name }) => [graph === model.graph, name])).toEqual([
    [true, 't'],
    [true, 'v0'],
    [true, 'w'],
  ])
})

test('the path names every value and node from the product to the constant', () => {
  const cast = node('Cast', ['w'], 'v', { to: { int: DataType.bfloat16 } })
  const { graph } = modelOf([cast, node('Transpose', ['v'], 't')])
  const path = weightPath(graph, 't')
  expect(path?.nodes.map(({ opType }) => opType)).toEqual(['Transpose', 'Cast'])
  expect(path?.values.map(({ name }) => name)).toEqual(['t', 'v', 'w'])
  expect(path).toMatchObject({
    constant: { name: 'w' },
    isTransposed: true,
    isQuantised: false,
    dims: [IN, OUT],
    dataType: DataType.bfloat16,
  })
})

test('computed values and cycles have no path', () => {
  const { graph } = modelOf([node('Identity', ['u'], 't'), node('Identity', ['t'], 'u')])
  expect(weightPath(graph, 't')).toBeUndefined()
  expect(weightPath(graph, 'x')).toBeUndefined()
  expect(weightPath(modelOf([node('Relu', ['w'], 't')]).graph, 't')).toBeUndefined()
})

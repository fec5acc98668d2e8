/** What lean graphs keep, what they compute again, and when; and the memory that both kinds of graphs need. */
import { describe, expect, test } from 'vitest'
import { createModel } from '../model/create-model.js'
import type { NewNode } from '../model/encode.js'
import type { OnnxGraph } from '../model/graph.js'
import { DataType } from '../model/schema.js'
import { floats, numbers } from './__fixtures__/check-gradient.js'
import { differentiate } from './differentiate.js'
import type { MemoryPolicy } from './keep-or-recompute.js'

const WIDTH = 4

/** Layers that add tanh(x·A)·B to their input, as the residual stream of a transformer. The target is added to the input. */
function residualModel(layers: number) {
  const nodes: NewNode[] = [{ name: 'start', opType: 'Add', inputs: ['x', 'target'], outputs: ['x0'] }]
  const initializers = []
  for (let i = 0; i < layers; i++) {
    for (const name of ['a', 'b'])
      initializers.push(floats(`${name}${i}`, numbers([WIDTH, WIDTH], initializers.length + 1), true))
    nodes.push(
      { name: `first${i}`, opType: 'MatMul', inputs: [`x${i}`, `a${i}`], outputs: [`h${i}`] },
      { name: `tanh${i}`, opType: 'Tanh', inputs: [`h${i}`], outputs: [`t${i}`] },
      { name: `second${i}`, opType: 'MatMul', inputs: [`t${i}`, `b${i}`], outputs: [`u${i}`] },
      { name: `sum${i}`, opType: 'Add', inputs: [`x${i}`, `u${i}`], outputs: [`x${i + 1}`] },
    )
  }
  nodes.push({ name: 'end', opType: 'Tanh', inputs: [`x${layers}`], outputs: ['y'] })
  const value = (name: string, dims: (string | number)[]) => ({ name, dataType: DataType.float, dims })
  const tokens = ['batch', 'tokens', WIDTH]
  const inputs = [value('x', tokens), value('target', [WIDTH]), value('seed', tokens)]
  return createModel(
    { name: 'main', nodes, inputs, outputs: [value('y', tokens)], initializers },
    { opset: 18 },
  )
}

function differentiated(layers: number, memory: MemoryPolicy) {
  const model = residualModel(layers)
  const derivative = differentiate(model, { seeds: new Map([['y', 'seed']]), targets: ['target'], memory })
  return { graph: model.graph, ...derivative }
}

/** All values that the value depends on. */
function ancestors({ index }: OnnxGraph, value: string): ReadonlySet<string> {
  const found = new Set([value])
  for (const name of found) for (const input of index.producers.get(name)?.inputs ?? []) found.add(input)
  return found
}

describe('a lean graph', () => {
  const { graph } = differentiated(3, 'lean')
  const recomputed = graph.nodes.filter(({ outputs }) => /^fourierft\.recomputed\.\w+$/.test(outputs[0]))

  test('computes again what is inside the layers but the last, without products whose results nobody reads', () => {
    expect(recomputed.map(({ opType, outputs }) => [opType, outputs[0]])).toEqual(
      [1, 0].flatMap((i) => [
        ...(i === 0 ? [['Add', 'fourierft.recomputed.x0']] : []),
        ['MatMul', `fourierft.recomputed.h${i}`],
        ['Tanh', `fourierft.recomputed.t${i}`],
      ]),
    )
  })

  test('computes a layer again only after the gradient of its output', () => {
    const needed = ancestors(graph, 'fourierft.recomputed.h0')
    expect(needed).toContain('fourierft.recomputed.t1')
    expect(ancestors(graph, 'fourierft.recomputed.h1')).toContain('t2')
    expect(needed).toContain('seed')
  })

  test('reads no values of the forward pass later but the sums, and those of the last layer', () => {
    const forward = new Set(residualModel(3).graph.nodes.flatMap(({ outputs }) => outputs))
    const later = graph.nodes.filter(({ outputs }) => outputs[0].startsWith('fourierft.'))
    const read = later.flatMap(({ inputs }) => inputs).filter((input) => forward.has(input))
    expect([...new Set(read)].sort()).toEqual(['t2', 'x1', 'y'])
  })
})

test('a fast graph computes nothing again', () => {
  expect(differentiated(3, 'fast').graph.nodes.filter(({ name }) => name.includes('recomputed'))).toEqual([])
})

test('the memory of a step is that of the kept values, and of one layer', () => {
  // [batch, tokens, 4] of float32.
  const one = 2 * 5 * WIDTH * 4
  const needs = (layers: number, memory: 'fast' | 'lean') =>
    differentiated(layers, memory).stepMemory((input) => (input === 'x' ? [2, 5, WIDTH] : undefined)) / one
  // y and three tanh; and four for parts of a derivative.
  expect(needs(3, 'fast')).toBe(4 + 4)
  // y, the tanh of the last layer, one sum; one tanh.
  expect(needs(3, 'lean')).toBe(3 + 1 + 4)
  expect(needs(30, 'fast') - needs(3, 'fast')).toBe(27)
})

/** The index of a graph says after any edits what a search through all nodes says, and attaching takes linear time because of it. */
import { explicitEntries } from '@fourierft/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { attachBranches } from '../attach/attach.js'
import { detachBranches } from '../attach/detach.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { createModel } from './create-model.js'
import type { NewNode } from './encode.js'
import type { OnnxGraph, OnnxNode } from './graph.js'
import { readModel } from './model.js'
import { DataType } from './schema.js'

const NAMES = ['a', 'b', 'c', 'd', '', 'constructor', '__proto__'] as const

/** `If` in an `If`, and nodes that read the same names at each level. */
function nested() {
  const relu = (input: string, output: string): NewNode => ({
    opType: 'Relu',
    inputs: [input],
    outputs: [output],
  })
  const choice = (output: string, nodes: readonly NewNode[]): NewNode => ({
    opType: 'If',
    inputs: ['a'],
    outputs: [output],
    attributes: { then_branch: { graph: { name: 'then', nodes, outputs: [{ name: 'c' }] } } },
  })
  const nodes = [
    relu('a', 'b'),
    choice('d', [relu('b', 'c'), choice('e', [relu('b', 'c'), relu('a', 'f')])]),
    relu('d', 'g'),
  ]
  const inputs = [{ name: 'a', dataType: DataType.bool, dims: [] }]
  return createModel({ name: 'main', nodes, inputs, outputs: [{ name: 'g' }] }, { opset: 17 })
}

function definesNaively(graph: OnnxGraph, name: string): boolean {
  return (
    graph.initializers.has(name) ||
    graph.inputs.some((input) => input.name === name) ||
    graph.nodes.some(({ outputs }) => name !== '' && outputs.includes(name))
  )
}

function consumersNaively(graph: OnnxGraph, name: string): OnnxNode[] {
  return graph.nodes.flatMap((node) => [
    ...(name !== '' && node.inputs.includes(name) ? [node] : []),
    ...node.subgraphs.flatMap((inner) => (definesNaively(inner, name) ? [] : consumersNaively(inner, name))),
  ])
}

/** Nodes have no names of their own here: where they are in the list is what they are called. */
function expectSame(graphs: readonly OnnxGraph[]): void {
  for (const graph of graphs)
    for (const name of [...NAMES, 'e', 'f', 'g', 'made']) {
      expect(graph.defines(name)).toBe(definesNaively(graph, name))
      const [found, expected] = [graph.consumersOf(name), new Set(consumersNaively(graph, name))]
      expect(found).toHaveLength(expected.size)
      expect(found.every((node) => expected.has(node))).toBe(true)
      const makers = graph.nodes.filter(({ outputs }) => name !== '' && outputs.includes(name))
      const maker = graph.index.producers.get(name)
      expect(maker === undefined ? makers.length === 0 : makers.includes(maker)).toBe(true)
    }
}

const edit = fc.record({
  kind: fc.constantFrom('input', 'output', 'after', 'before', 'replace', 'remove', 'undone'),
  graph: fc.nat(),
  node: fc.nat(),
  name: fc.constantFrom(...NAMES),
  other: fc.constantFrom(...NAMES),
})

describe('the index of a graph', () => {
  test('says after any edits what a search says', () => {
    fc.assert(
      fc.property(fc.array(edit, { maxLength: 12 }), (edits) => {
        const model = nested()
        expectSame(model.graph.graphs())
        for (const { kind, graph, node, name, other } of edits) {
          const graphs = model.graph.graphs()
          const inside = graphs[graph % graphs.length]
          const chosen = inside.nodes[node % Math.max(1, inside.nodes.length)]
          if (!chosen) continue
          const made: NewNode = { opType: 'Add', inputs: [name, other, name], outputs: [other, 'made'] }
          if (kind === 'input' && chosen.inputs.length > 0) chosen.setInput(0, name)
          else if (kind === 'output') chosen.setOutput(0, name)
          else if (kind === 'after') inside.insertAfter(chosen, [made])
          else if (kind === 'before') inside.insertBefore(chosen, [made, made])
          else if (kind === 'replace') inside.replaceNode(chosen, [made])
          else if (kind === 'remove') inside.removeNodes([chosen])
          else {
            const before = model.toBytes()
            const undone = () =>
              model.transaction(() => {
                inside.insertBefore(chosen, [made])
                chosen.setOutput(0, other)
                throw new Error('undo')
              })
            expect(undone).toThrow('undo')
            expect(model.toBytes()).toEqual(before)
          }
          expectSame(model.graph.graphs())
        }
        const read = (graphs: readonly OnnxGraph[]) =>
          graphs.map(({ nodes }) => nodes.map(({ opType, inputs, outputs }) => [opType, inputs, outputs]))
        expect(read(readModel(model.toBytes()).graph.graphs())).toEqual(read(model.graph.graphs()))
      }),
      { numRuns: 200 },
    )
  })

  test('a node of another graph is refused', () => {
    const [one, other] = [nested().graph, nested().graph]
    const [node] = other.nodes as [OnnxNode]
    for (const wrong of [
      () => one.insertAfter(node, []),
      () => one.insertBefore(node, []),
      () => one.replaceNode(node, []),
    ])
      expect(wrong).toThrow(/has no node/)
  })
})

describe('many layers', () => {
  const entries = explicitEntries({ shape: [2, 2], rows: [0, 1], columns: [1, 0] })
  const value = (name: string) => ({ name, dataType: DataType.float, dims: ['T', 2] })

  /** Products with biases and a weight that all of them share, one after the other. */
  function chain(layers: number): Uint8Array {
    const data = new Uint8Array(Float32Array.of(1, 0, 0, 1).buffer)
    const nodes = Array.from({ length: layers }, (_, i): NewNode[] => [
      {
        name: `/layer.${i}/MatMul`,
        opType: 'MatMul',
        inputs: [i === 0 ? 'x' : `y${i - 1}`, 'w'],
        outputs: [`p${i}`],
      },
      { opType: 'Add', inputs: [`p${i}`, `b${i}`], outputs: [`y${i}`] },
    ])
    const biases = Array.from({ length: layers }, (_, i) => ({
      name: `b${i}`,
      dims: [2],
      dataType: DataType.float,
      data: data.subarray(0, 8),
    }))
    const graph = {
      name: 'main',
      nodes: nodes.flat(),
      inputs: [value('x')],
      outputs: [value(`y${layers - 1}`)],
      initializers: [{ name: 'w', dims: [2, 2], dataType: DataType.float, data }, ...biases],
    }
    return createModel(graph, { opset: 17 }).toBytes()
  }

  /** Processor time of this process, in milliseconds. */
  function timeOf(bytes: Uint8Array): number {
    const before = process.cpuUsage()
    const model = readModel(bytes)
    const branches = findLinearLayers(model).map((layer, i) => ({ module: `m${i}`, layer, entries }))
    attachBranches(model, branches)
    const attached = readModel(model.toBytes())
    detachBranches(attached)
    expect(attached.size).toBe(bytes.length)
    const { user, system } = process.cpuUsage(before)
    return (user + system) / 1000
  }

  test('twice as many are found, attached to and detached in about twice the time', () => {
    const [few, many] = [chain(2000), chain(4000)]
    timeOf(chain(500))
    const best = (bytes: Uint8Array) => Math.min(timeOf(bytes), timeOf(bytes), timeOf(bytes))
    // 4 would be quadratic; before there was an index, it took a minute.
    expect(best(many) / best(few)).toBeLessThan(3)
  })
})

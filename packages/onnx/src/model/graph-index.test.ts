/** After any edits, the index of a graph gives what a search through all nodes gives. The index makes attaching take linear time. */
import { explicitEntries } from '@fourierft/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Counted, countCalls } from '../__fixtures__/count-calls.js'
import { attachBranches } from '../attach/attach.js'
import { detachBranches } from '../attach/detach.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { createModel } from './create-model.js'
import type { NewNode } from './encode.js'
import { type OnnxGraph, OnnxNode } from './graph.js'
import { readModel } from './model.js'
import { DataType } from './schema.js'
import { Cursor, WireMessage } from './wire-message.js'

const NAMES = ['a', 'b', 'c', 'd', '', 'constructor', '__proto__'] as const

/** An `If` in an `If`, with nodes that read the same names at each level. */
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

function definesBySearch(graph: OnnxGraph, name: string): boolean {
  return (
    graph.initializers.has(name) ||
    graph.inputs.some((input) => input.name === name) ||
    graph.nodes.some(({ outputs }) => name !== '' && outputs.includes(name))
  )
}

function consumersBySearch(graph: OnnxGraph, name: string): OnnxNode[] {
  return graph.nodes.flatMap((node) => [
    ...(name !== '' && node.inputs.includes(name) ? [node] : []),
    ...node.subgraphs.flatMap((inner) =>
      definesBySearch(inner, name) ? [] : consumersBySearch(inner, name),
    ),
  ])
}

/** Compares what the index gives for each name with a search. The nodes have no names, so they are compared as objects. */
function expectSame(graphs: readonly OnnxGraph[]): void {
  const differences = graphs.flatMap((graph) =>
    [...NAMES, 'e', 'f', 'g', 'new'].filter((name) => {
      const consumers = graph.consumersOf(name)
      const expected = new Set(consumersBySearch(graph, name))
      const producers = graph.nodes.filter(({ outputs }) => name !== '' && outputs.includes(name))
      const producer = graph.index.producers.get(name)
      const isSame =
        graph.defines(name) === definesBySearch(graph, name) &&
        consumers.length === expected.size &&
        consumers.every((node) => expected.has(node)) &&
        (producer === undefined ? producers.length === 0 : producers.includes(producer))
      return !isSame
    }),
  )
  expect(differences).toEqual([])
}

const edit = fc.record({
  kind: fc.constantFrom('input', 'output', 'after', 'before', 'replace', 'remove', 'failed transaction'),
  graph: fc.nat(),
  node: fc.nat(),
  name: fc.constantFrom(...NAMES),
  other: fc.constantFrom(...NAMES),
})

describe('the index of a graph', () => {
  test('gives what a search gives, after any edits', () => {
    fc.assert(
      fc.property(fc.array(edit, { maxLength: 12 }), (edits) => {
        const model = nested()
        expectSame(model.graph.graphs())
        for (const { kind, graph, node, name, other } of edits) {
          const graphs = model.graph.graphs()
          const chosenGraph = graphs[graph % graphs.length]
          const chosen = chosenGraph.nodes[node % Math.max(1, chosenGraph.nodes.length)]
          if (!chosen) continue
          const added: NewNode = { opType: 'Add', inputs: [name, other, name], outputs: [other, 'new'] }
          if (kind === 'input' && chosen.inputs.length > 0) chosen.setInput(0, name)
          else if (kind === 'output') chosen.setOutput(0, name)
          else if (kind === 'after') chosenGraph.insertAfter(chosen, [added])
          else if (kind === 'before') chosenGraph.insertBefore(chosen, [added, added])
          else if (kind === 'replace') chosenGraph.replaceNode(chosen, [added])
          else if (kind === 'remove') chosenGraph.removeNodes([chosen])
          else {
            const before = model.toBytes()
            const fail = () =>
              model.transaction(() => {
                chosenGraph.insertBefore(chosen, [added])
                chosen.setOutput(0, other)
                throw new Error('undo')
              })
            expect(fail).toThrow('undo')
            expect(model.toBytes()).toEqual(before)
          }
          expectSame(model.graph.graphs())
        }
        const contentOf = (graphs: readonly OnnxGraph[]) =>
          graphs.map(({ nodes }) => nodes.map(({ opType, inputs, outputs }) => [opType, inputs, outputs]))
        expect(contentOf(readModel(model.toBytes()).graph.graphs())).toEqual(contentOf(model.graph.graphs()))
      }),
      { numRuns: 200 },
    )
  })

  test('edits reject a node of another graph', () => {
    const [graph, other] = [nested().graph, nested().graph]
    const [node] = other.nodes as [OnnxNode]
    for (const edit of [
      () => graph.insertAfter(node, []),
      () => graph.insertBefore(node, []),
      () => graph.replaceNode(node, []),
    ])
      expect(edit).toThrow(/the node "" does not belong to the new model/)
  })
})

describe('many layers', () => {
  const entries = explicitEntries({ shape: [2, 2], rows: [0, 1], columns: [1, 0] })
  const value = (name: string) => ({ name, dataType: DataType.float, dims: ['T', 2] })

  /** Creates a chain of products that share one weight and have a bias each. */
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

  /** Counts the reads of node values and of the file's fields while branches are attached and detached. */
  function readsOf(bytes: Uint8Array): number {
    const counted: Counted[] = [
      [OnnxNode.prototype, 'inputs'],
      [OnnxNode.prototype, 'outputs'],
      [Cursor.prototype, 'next'],
      [WireMessage.prototype, 'fields'],
    ]
    return countCalls(counted, () => {
      const model = readModel(bytes)
      const branches = findLinearLayers(model).map((layer, i) => ({ module: `m${i}`, layer, entries }))
      attachBranches(model, branches)
      const attached = readModel(model.toBytes())
      detachBranches(attached)
      expect(attached.size).toBe(bytes.length)
    })
  }

  test('finding, attaching and detaching twice as many layers takes twice as many reads', () => {
    const [few, many] = [readsOf(chain(100)), readsOf(chain(200))]
    expect(few).toBeGreaterThan(1000)
    // A quadratic algorithm takes four times as many.
    expect(many / few).toBeLessThan(2.1)
  })
})

/**
 * Files of ten megabytes with as many parts as possible, each in its own process. The peak memory is at most twelve times the file, whether
 * the file is rejected or read, searched, attached to and written.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { encodeGraph, encodeNode, encodeTensor, encodeValue, type NewNode } from './encode.js'
import { MEMORY_FACTOR } from './memory-budget.js'
import { Attribute, DataType, Graph, Model, Node, Tensor, ValueInfo } from './schema.js'
import { field, message, type WireField } from './wire-message.js'

const SIZE = 10_000_000

const folder = mkdtempSync(join(tmpdir(), 'fourierft-budget-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function bytesOf(part: { writeTo(parts: Uint8Array[]): void }): Uint8Array {
  const parts: Uint8Array[] = []
  part.writeTo(parts)
  return Buffer.concat(parts)
}

const NAME = 'zzzz'

/** Repeats a field until the size is reached, each time with another name instead of {@link NAME}. */
function repeated(make: (name: string) => WireField): Uint8Array {
  const part = Buffer.from(bytesOf(make(NAME)))
  const offsets: number[] = []
  for (let offset = part.indexOf(NAME); offset >= 0; offset = part.indexOf(NAME, offset + 1))
    offsets.push(offset)
  const parts = Buffer.alloc(SIZE - (SIZE % part.length), part)
  if (offsets.length === 0) return parts
  for (let i = 0; i * part.length < parts.length; i++) {
    const name = i.toString(36).padStart(NAME.length, '0')
    for (const offset of offsets) parts.write(name, i * part.length + offset, 'latin1')
  }
  return parts
}

/** Creates a field whose payload is a list of encoded fields. */
const within = (number: number, ...parts: readonly Uint8Array[]) => field(number, Buffer.concat(parts))

const value = (name: string) => ({ name, dataType: DataType.float, dims: ['n', 2] })
const product: NewNode = { name: '/a/q/MatMul', opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }
const base = {
  name: 'main',
  nodes: [product],
  inputs: [value('x')],
  outputs: [value('y')],
  initializers: [{ name: 'w', dims: [2, 2], dataType: DataType.float, data: new Uint8Array(16) }],
}

/** Creates a model of one layer, with additional bytes at the end of its graph or of the model. */
function model({ graph, end }: { graph?: Uint8Array; end?: Uint8Array }): Uint8Array {
  const header = message(
    field(Model.irVersion, 8),
    field(Model.opsetImport, message(field(1, ''), field(2, 17))),
  )
  return Buffer.concat([
    bytesOf(header),
    bytesOf(within(Model.graph, bytesOf(encodeGraph(base)), graph ?? new Uint8Array())),
    end ?? new Uint8Array(),
  ])
}

const inGraph = (make: (name: string) => WireField) => model({ graph: repeated(make) })
const node = (newNode: NewNode) => field(Graph.node, encodeNode(newNode))
/** Creates a model with a product that has these additional fields. */
const inNode = (parts: Uint8Array) =>
  model({
    graph: bytesOf(within(Graph.node, bytesOf(encodeNode({ ...product, name: '', outputs: ['z'] })), parts)),
  })
const inAttribute = (name: string, opType: string, parts: Uint8Array) => {
  const attribute = bytesOf(within(Node.attribute, bytesOf(field(Attribute.name, name)), parts))
  const axis = { axis: { int: -1 } }
  const split = { opType, inputs: ['y'], outputs: ['q', 'k', 'v'], attributes: axis }
  return model({ graph: bytesOf(within(Graph.node, bytesOf(encodeNode(split)), attribute)) })
}
const inTensor = (parts: Uint8Array) =>
  model({
    graph: bytesOf(within(Graph.initializer, bytesOf(message(field(Tensor.name, 't'), field(2, 7))), parts)),
  })
const pairs = (number: number) => repeated((name) => field(number, message(field(1, name))))
const padded = (name: string, length: number) => name.padStart(length, '_')

const REJECTED: Readonly<Record<string, () => Uint8Array>> = {
  'nodes of two bytes': () => inGraph(() => field(Graph.node, message())),
  'attributes with a name': () =>
    inNode(repeated((name) => field(Node.attribute, message(field(Attribute.name, name))))),
  'nodes with an operator and an output': () =>
    inGraph((name) => node({ opType: 'A', inputs: [], outputs: [name] })),
  'nodes of 40 bytes': () =>
    inGraph((name) =>
      node({ opType: 'Relu', inputs: [padded(name, 12)], outputs: [`y${padded(name, 12)}`] }),
    ),
  'subgraphs of If': () =>
    inGraph((name) =>
      node({
        opType: 'If',
        inputs: ['c'],
        outputs: [name],
        attributes: {
          a: { graph: { name: '', nodes: [{ opType: 'A', inputs: [], outputs: ['b'] }], outputs: [] } },
        },
      }),
    ),
  'empty graphs in one attribute': () =>
    inAttribute(
      'then_branch',
      'If',
      repeated(() => field(Attribute.graphs, message())),
    ),
  'names in one node': () => inNode(repeated((name) => field(Node.input, name))),
  tensors: () => inGraph((name) => field(Graph.initializer, message(field(Tensor.name, name)))),
  'tensors with data': () =>
    inGraph((name) =>
      field(
        Graph.initializer,
        encodeTensor({ name: padded(name, 8), dims: [2], dataType: 1, data: new Uint8Array(8) }),
      ),
    ),
  inputs: () => inGraph((name) => field(Graph.input, encodeValue({ name }))),
  'values of two bytes': () => inGraph(() => field(Graph.valueInfo, message())),
  'values with a name': () => inGraph((name) => field(Graph.valueInfo, message(field(ValueInfo.name, name)))),
  'unknown fields of the model': () => model({ end: repeated(() => field(99, 0)) }),
  'metadata of the model': () => model({ end: pairs(Model.metadata) }),
  'metadata of a node': () => inNode(pairs(Node.metadata)),
  'operator sets': () => model({ end: pairs(Model.opsetImport) }),
  functions: () => model({ end: pairs(Model.functions) }),
  'locations of external data': () =>
    inTensor(Buffer.concat([bytesOf(field(14, 1)), pairs(Tensor.external)])),
  dims: () => inTensor(repeated(() => field(Tensor.dims, 1))),
  'packed dims': () => inTensor(bytesOf(field(Tensor.dims, new Uint8Array(SIZE).fill(1)))),
  'packed integers of an attribute': () =>
    inAttribute('split', 'Split', bytesOf(field(Attribute.ints, new Uint8Array(SIZE).fill(1)))),
}

const ACCEPTED: Readonly<Record<string, () => Uint8Array>> = {
  'nodes of exporters': () =>
    inGraph((name) =>
      node({
        name: `/encoder/layer/${padded(name, 20)}/activation/Relu`,
        opType: 'Relu',
        inputs: [`/encoder/layer/${padded(name, 20)}/intermediate/Add_output_0`],
        outputs: [`/encoder/layer/${padded(name, 20)}/activation/Relu_output_0`],
      }),
    ),
  'layers of exporters': () =>
    inGraph((name) =>
      node({
        name: `/encoder/layer.${padded(name, 8)}/attention/self/query/MatMul`,
        opType: 'MatMul',
        inputs: [`/encoder/layer.${padded(name, 8)}/attention/self/input_output_0`, 'w'],
        outputs: [`/encoder/layer.${padded(name, 8)}/attention/self/query/MatMul_output_0`],
        attributes: { note: { string: '-'.repeat(400) } },
      }),
    ),
  'attributes of two bytes': () => inNode(repeated(() => field(Node.attribute, message()))),
  'unknown fields of a node': () => inNode(repeated(() => field(99, 0))),
  'integers of an attribute': () =>
    inAttribute(
      'split',
      'Split',
      repeated(() => field(Attribute.ints, 1)),
    ),
  'integers of a tensor, one byte each': () =>
    inTensor(
      Buffer.concat([
        bytesOf(field(Tensor.dims, SIZE)),
        bytesOf(field(Tensor.int64Data, new Uint8Array(SIZE).fill(1))),
      ]),
    ),
  'a name of ten megabytes': () => inNode(bytesOf(field(Node.name, 'a'.repeat(SIZE)))),
}

const program = `
  import { readFileSync } from 'node:fs'
  import { explicitEntries } from '@fourierft/core'
  import { attachBranches, findLinearLayers, findPackedLayers, readModel } from '@fourierft/onnx'
  // On Linux, maxRSS includes the process before it started this program; VmHWM does not.
  function peak() {
    if (process.platform !== 'linux') return 1024 * process.resourceUsage().maxRSS
    return 1024 * Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
  }
  const entries = explicitEntries({ shape: [2, 2], rows: [0, 1], columns: [1, 0] })
  function use(bytes) {
    try {
      const model = readModel(bytes)
      const [layer] = [...findLinearLayers(model), ...findPackedLayers(model)]
      model.graph.initializers.get('t')?.data()
      attachBranches(model, [{ module: 'm', layer, entries }])
      return model.toBytes().length > bytes.length ? 'read' : 'not attached'
    } catch (error) {
      return error.code ?? String(error)
    }
  }
  const [small, large] = process.argv.slice(1)
  use(readFileSync(small))
  const before = peak()
  const outcome = use(readFileSync(large))
  console.log(JSON.stringify({ outcome, additional: peak() - before }))
`

const small = join(folder, 'small.onnx')
writeFileSync(small, model({}))

function run(bytes: Uint8Array): { readonly outcome: string; readonly additional: number } {
  const large = join(folder, 'large.onnx')
  writeFileSync(large, bytes)
  // V8 may delay garbage collection, most of all on a busy machine. With this limit it collects in time.
  const heapLimit = `--max-old-space-size=${(MEMORY_FACTOR * SIZE) >> 20}`
  const args = [heapLimit, '--input-type=module', '-e', program, small, large]
  const output = execFileSync(process.execPath, args, {
    cwd: new URL('../..', import.meta.url),
    encoding: 'utf8',
  })
  return JSON.parse(output)
}

test.each(Object.entries(REJECTED))('rejects %s in bounded memory', (_, make) => {
  const bytes = make()
  const { outcome, additional } = run(bytes)
  expect(outcome).toBe('INVALID_ONNX')
  expect(additional).toBeLessThan(MEMORY_FACTOR * bytes.length)
})

test.each(Object.entries(ACCEPTED))('reads %s in bounded memory', (_, make) => {
  const bytes = make()
  const { outcome, additional } = run(bytes)
  expect(outcome).toBe('read')
  expect(additional).toBeLessThan(MEMORY_FACTOR * bytes.length)
})

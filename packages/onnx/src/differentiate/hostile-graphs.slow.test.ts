/**
 * Hostile files, each in its own process: graphs as large as files of a few megabytes can have them, cycles, functions and choices inside each
 * other, shapes that lie. `makeTrainingGraph` rejects them with an error of this package, or makes a graph, in bounded time and memory.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import {
  encodeFunction,
  encodeGraph,
  encodeNode,
  encodeOpset,
  encodeTensor,
  encodeValue,
  type NewAttribute,
  type NewFunction,
  type NewNode,
  type NewTensor,
  type NewValue,
} from '../model/encode.js'
import { DataType, Graph, Model } from '../model/schema.js'
import { field, message, type WireField } from '../model/wire-message.js'

/** The nodes of a file of some megabytes; its training graph has several times as many. */
const MANY = 20_000
/** Of one case, on a busy machine. Most take a second. */
const SECONDS = 60
/** The memory of one case: the model and its gradients are some ten objects for each node. */
const MEGABYTES = 600
/** No shape of a model is as large. */
const HUGE = 2 ** 40

const folder = mkdtempSync(join(tmpdir(), 'fourierft-hostile-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A name as long as those of exporters. */
const value = (name: string | number) => `/model/encoder/layer.0/attention/output/${name}_output_0`

function node(
  opType: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Readonly<Record<string, NewAttribute>> = {},
): NewNode {
  const name = `/model/encoder/layer.0/attention/output/${outputs[0]}`
  const [domain, ownType] = opType.includes(':') ? opType.split(':') : ['', opType]
  return { name, opType: ownType as string, domain: domain as string, inputs, outputs, attributes }
}

/** `count` nodes from `h` to `y`, each of which reads the value before it. */
function chain(
  count: number,
  make: (input: string, output: string, i: number) => readonly NewNode[],
): NewNode[] {
  return Array.from({ length: count }, (_, i) =>
    make(i === 0 ? 'h' : value(i - 1), i === count - 1 ? 'y' : value(i), i),
  ).flat()
}

function bytesOf(...fields: readonly WireField[]): Uint8Array {
  const parts: Uint8Array[] = []
  message(...fields).writeTo(parts)
  return Buffer.concat(parts)
}

interface Parts {
  readonly nodes: readonly NewNode[]
  /** More bytes of the graph. */
  readonly more?: Uint8Array
  readonly initializers?: readonly (NewTensor & { readonly name: string })[]
  readonly valueInfos?: readonly NewValue[]
  readonly functions?: readonly NewFunction[]
}

/** A file with a layer that writes `h`, more nodes that write `y`, and the output `y`. */
function file({ nodes, more, initializers = [], valueInfos = [], functions = [] }: Parts): Uint8Array {
  const float = (name: string) => ({ name, dataType: DataType.float, dims: ['n', 2] })
  const weight = { name: 'w', dims: [2, 2], dataType: DataType.float, data: new Uint8Array(16) }
  const product = { name: '/a/q/MatMul', opType: 'MatMul', inputs: ['x', 'w'], outputs: ['h'] }
  const graph = encodeGraph({
    name: 'main',
    nodes: [product, ...nodes],
    inputs: [float('x'), { name: 'c', dataType: DataType.bool, dims: [] }],
    outputs: [float('y')],
    initializers: [weight],
  })
  const others = bytesOf(
    ...initializers.map((tensor) => field(Graph.initializer, encodeTensor(tensor))),
    ...valueInfos.map((one) => field(Graph.valueInfo, encodeValue(one))),
  )
  return bytesOf(
    field(Model.irVersion, 8),
    field(Model.opsetImport, encodeOpset('', 17)),
    field(Model.opsetImport, encodeOpset('com.microsoft', 1)),
    field(Model.opsetImport, encodeOpset('f', 1)),
    field(Model.graph, Buffer.concat([bytesOf(...graph.fields()), others, more ?? new Uint8Array()])),
    ...functions.map((one) => field(Model.functions, encodeFunction(one))),
  )
}

const integers = (name: string, values: readonly number[], dims: readonly number[] = [values.length]) => ({
  name,
  dims,
  dataType: DataType.int64,
  data: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
})

const floats = (name: string, dims: readonly number[], count: number) => ({
  name,
  dims,
  dataType: DataType.float,
  data: new Uint8Array(4 * count),
})

const axisOf = (axis: number) => ({ axis: { int: axis } })

/** A function that calls the next one twice. */
function doubling(level: number, last: number): NewFunction {
  const call = (input: string, output: string): NewNode =>
    level === last
      ? { opType: 'Relu', inputs: [input], outputs: [output] }
      : { opType: `f${level + 1}`, domain: 'f', inputs: [input], outputs: [output] }
  return {
    domain: 'f',
    name: `f${level}`,
    inputs: ['a'],
    outputs: ['b'],
    nodes: [call('a', 'm'), call('m', 'b')],
    opsetImports: new Map([
      ['', 17],
      ['f', 1],
    ]),
  }
}

/** `If` nodes inside each other; both graphs read `h`. */
function nested(depth: number): NewNode {
  const body = (name: string): NewAttribute => {
    const inner = depth === 0 ? node('Relu', ['h'], ['r']) : nested(depth - 1)
    return { graph: { name, nodes: [inner], outputs: [{ name: inner.outputs[0] as string }] } }
  }
  const attributes = { then_branch: body('t'), else_branch: body('e') }
  return node('If', ['yes'], [`y${depth}`], attributes)
}

const yes = { name: 'yes', dims: [], dataType: DataType.bool, data: Uint8Array.of(1) }

/** A node between `h` and `y` that reads a value of lying dims. */
const reading = (opType: string, inputs: readonly string[], attributes?: Record<string, NewAttribute>) =>
  file({
    nodes: [node('f:Lie', ['x'], ['lie', 'indices']), node(opType, inputs, ['y'], attributes)],
    valueInfos: [
      { name: 'lie', dataType: DataType.float, dims: [HUGE, HUGE] },
      { name: 'indices', dataType: DataType.int64, dims: [HUGE] },
    ],
  })

interface Case {
  readonly make: () => Uint8Array
  /** The code of the error; undefined if a graph is made. */
  readonly code?: string
}

const CASES: Readonly<Record<string, Case>> = {
  'two million nodes': {
    make: () => {
      const one = bytesOf(
        field(Graph.node, encodeNode({ opType: 'Relu', inputs: ['h'], outputs: ['a value'] })),
      )
      return file({ nodes: [node('Relu', ['h'], ['y'])], more: Buffer.alloc(2_000_000 * one.length, one) })
    },
    code: 'INVALID_ONNX',
  },
  'a chain of nodes': { make: () => file({ nodes: chain(MANY, (a, b) => [node('Relu', [a], [b])]) }) },
  'a chain of nodes whose training graph is too large': {
    make: () => file({ nodes: chain(3 * MANY, (a, b) => [node('Relu', [a], [b])]) }),
    code: 'INVALID_ONNX',
  },
  'a chain of sums of a value with itself': {
    make: () => file({ nodes: chain(MANY, (a, b) => [node('Add', [a, a], [b])]) }),
  },
  'a chain of sums before a selection': {
    make: () =>
      file({
        nodes: [
          ...chain(1000, (a, b, i) => [node('Add', [a, a], [i === 999 ? 'last' : b])]),
          node('Unsqueeze', ['last', 'zero'], ['u']),
          node('Gather', ['last', 'first'], ['y'], axisOf(0)),
        ],
        initializers: [integers('first', [0], []), integers('zero', [0])],
      }),
  },
  'many readers of one value': {
    make: () =>
      file({
        nodes: [
          ...Array.from({ length: MANY }, (_, i) => node('Relu', ['h'], [value(i)])),
          node(
            'Sum',
            Array.from({ length: MANY }, (_, i) => value(i)),
            ['y'],
          ),
        ],
      }),
    code: 'INVALID_ONNX',
  },
  'the largest of many values': {
    make: () =>
      file({
        nodes: [
          node(
            'Max',
            Array.from({ length: MANY }, () => 'h'),
            ['y'],
          ),
        ],
      }),
    code: 'INVALID_ONNX',
  },
  'many parts that are joined': {
    make: () =>
      file({
        nodes: [
          node(
            'Concat',
            Array.from({ length: MANY }, () => 'h'),
            ['j'],
            axisOf(1),
          ),
          node('Slice', ['j', 'zero', 'two', 'one'], ['y']),
        ],
        initializers: [integers('zero', [0]), integers('one', [1]), integers('two', [2])],
      }),
  },
  'a split into many parts': {
    make: () =>
      file({
        nodes: [node('Split', ['h'], ['y', ...Array.from({ length: MANY }, (_, i) => value(i))], axisOf(1))],
      }),
  },
  'many selections': {
    make: () =>
      file({
        nodes: [
          ...Array.from({ length: MANY / 8 }, (_, i) => [
            node('MatMul', ['h', 'w'], [value(`p${i}`)]),
            node('Gather', [value(`p${i}`), 'first'], [value(i)], axisOf(0)),
          ]).flat(),
          node(
            'Sum',
            Array.from({ length: MANY / 8 }, (_, i) => value(i)),
            ['y'],
          ),
        ],
        initializers: [integers('first', [0])],
      }),
    code: 'INVALID_ONNX',
  },
  'many choices': {
    make: () =>
      file({
        nodes: chain(MANY / 10, (a, b) => {
          const body = { graph: { name: 'g', nodes: [node('Relu', [a], ['r'])], outputs: [{ name: 'r' }] } }
          return [node('If', ['yes'], [b], { then_branch: body, else_branch: body })]
        }),
        initializers: [yes],
      }),
  },
  'choices inside each other': {
    make: () => file({ nodes: [nested(11), node('Identity', ['y11'], ['y'])], initializers: [yes] }),
  },
  'choices deep inside each other': {
    make: () => {
      let inner = node('Relu', ['h'], ['r'])
      for (let i = 0; i < 70; i++) {
        const body = { graph: { name: 'g', nodes: [inner], outputs: [{ name: inner.outputs[0] as string }] } }
        inner = node('If', ['yes'], [`r${i}`], { then_branch: body, else_branch: body })
        if (i > 8) inner = { ...inner, attributes: { then_branch: body } }
      }
      return file({ nodes: [inner, node('Identity', ['r69'], ['y'])], initializers: [yes] })
    },
    code: 'INVALID_ONNX',
  },
  'functions that double': {
    make: () =>
      file({
        nodes: [node('f:f0', ['h'], ['y'])],
        functions: Array.from({ length: 40 }, (_, i) => doubling(i, 39)),
      }),
    code: 'INVALID_ONNX',
  },
  'a function that calls itself': {
    make: () =>
      file({
        nodes: [node('f:f0', ['h'], ['y'])],
        functions: [
          { ...doubling(0, 0), nodes: [{ opType: 'f0', domain: 'f', inputs: ['a'], outputs: ['b'] }] },
        ],
      }),
    code: 'INVALID_ONNX',
  },
  'a cycle': {
    make: () =>
      file({
        nodes: [node('Add', ['h', 'b'], ['a']), node('Relu', ['a'], ['b']), node('Identity', ['b'], ['y'])],
      }),
    code: 'INVALID_ONNX',
  },
  'a node that reads its own output': {
    make: () => file({ nodes: [node('Add', ['h', 'y'], ['y'])] }),
    code: 'INVALID_ONNX',
  },
  'a cycle that no input reaches': {
    make: () =>
      file({
        nodes: [node('Relu', ['b'], ['a']), node('Relu', ['a'], ['b']), node('Add', ['h', 'b'], ['y'])],
      }),
    code: 'INVALID_ONNX',
  },
  'a value that nothing writes': {
    make: () => file({ nodes: [node('Add', ['h', 'nowhere'], ['y'])] }),
    code: 'INVALID_ONNX',
  },
  'nodes in the reverse order': {
    make: () => file({ nodes: chain(100, (a, b) => [node('Relu', [a], [b])]).reverse() }),
    code: 'INVALID_ONNX',
  },
  'fused attentions': {
    make: () =>
      file({
        nodes: chain(MANY / 20, (a, b) => [
          node('com.microsoft:MultiHeadAttention', [a, a, a], [b], { num_heads: { int: 1 } }),
        ]),
        valueInfos: [{ name: 'h', dataType: DataType.float, dims: ['n', 'm', 2] }],
      }),
    code: 'UNSUPPORTED',
  },
  'selections along as many axes as a lying size': {
    make: () => reading('GatherND', ['h', 'indices']),
    code: 'UNSUPPORTED',
  },
  'a slice of as many axes as a lying size': {
    make: () => reading('Slice', ['h', 'indices', 'indices']),
    code: 'UNSUPPORTED',
  },
  'padding of a lying size': { make: () => reading('Pad', ['h', 'indices']) },
  'a product with a value of a lying size': { make: () => reading('MatMul', ['h', 'lie']) },
  'a sum with a value of a lying size': { make: () => reading('Add', ['h', 'lie']) },
  'a shape of a lying size': { make: () => reading('Reshape', ['h', 'indices']) },
  'repetitions of a lying size': { make: () => reading('Tile', ['h', 'indices']) },
  'a reduction of as many axes as a lying size': {
    make: () => reading('ReduceSum', ['h', 'indices']),
    code: 'UNSUPPORTED',
  },
  'an axis out of range': { make: () => reading('Softmax', ['h'], axisOf(HUGE)) },
  'a permutation of many axes': {
    make: () => reading('Transpose', ['h'], { perm: { ints: Array.from({ length: 20_000 }, (_, i) => i) } }),
  },
  'an equation of many letters': {
    make: () => reading('Einsum', ['h', 'x'], { equation: { string: `${'ab'.repeat(100_000)},cd->ab` } }),
    code: 'UNSUPPORTED',
  },
  'a value of a million axes': {
    make: () =>
      file({
        nodes: [node('Identity', ['x'], ['lie']), node('Add', ['h', 'lie'], ['y'])],
        valueInfos: [
          { name: 'lie', dataType: DataType.float, dims: Array.from({ length: 100_000 }, () => 1) },
        ],
      }),
    code: 'INVALID_ONNX',
  },
  'a weight whose dims are larger than its data': {
    make: () =>
      file({ nodes: [node('MatMul', ['h', 'v'], ['y'])], initializers: [floats('v', [HUGE, HUGE], 4)] }),
  },
  'axes whose dims are larger than their data': {
    make: () =>
      file({
        nodes: [node('ReduceSum', ['h', 'axes'], ['y'])],
        initializers: [integers('axes', [1], [HUGE])],
      }),
    code: 'UNSUPPORTED',
  },
  'quantised weights whose dims are larger than their data': {
    make: () =>
      file({
        nodes: [
          node('com.microsoft:MatMulNBits', ['h', 'b', 's'], ['y'], {
            K: { int: HUGE },
            N: { int: HUGE },
            bits: { int: 4 },
            block_size: { int: 16 },
          }),
        ],
        initializers: [
          { name: 'b', dims: [HUGE, 1, 8], dataType: DataType.uint8, data: new Uint8Array(16) },
          floats('s', [HUGE], 2),
        ],
      }),
  },
}

const program = `
  import { readFileSync } from 'node:fs'
  import { explicitEntries } from '@fourierft/core'
  import { attachBranches, findLinearLayers, makeTrainingGraph, meanSquaredError, readModel } from '@fourierft/onnx'
  // On Linux, maxRSS includes the process before it started this program; VmHWM does not.
  function peak() {
    if (process.platform !== 'linux') return 1024 * process.resourceUsage().maxRSS
    return 1024 * Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
  }
  const bytes = readFileSync(process.argv[1])
  const before = peak()
  const start = process.cpuUsage().user
  let outcome
  let problem = ''
  try {
    const model = readModel(bytes)
    const [layer] = findLinearLayers(model)
    const entries = explicitEntries({ shape: [2, 2], rows: [0, 1], columns: [1, 0] })
    const { coefficients } = attachBranches(model, [{ module: 'm', layer, entries }])
    makeTrainingGraph(model, { loss: meanSquaredError('y'), targets: [...coefficients.values()] })
    model.toBytes()
    outcome = 'a graph'
  } catch (error) {
    outcome = error.code ?? error.stack
    problem = error.problem ?? error.message
  }
  const seconds = (process.cpuUsage().user - start) / 1e6
  console.log(JSON.stringify({ outcome, problem, seconds, megabytes: Math.round((peak() - before) / 1e6) }))
`

function run(bytes: Uint8Array) {
  const path = join(folder, 'hostile.onnx')
  writeFileSync(path, bytes)
  // V8 may delay garbage collection, most of all on a busy machine. With this limit it collects in time.
  const args = [`--max-old-space-size=${MEGABYTES}`, '--input-type=module', '-e', program, path]
  const output = execFileSync(process.execPath, args, {
    cwd: new URL('../..', import.meta.url),
    encoding: 'utf8',
    timeout: SECONDS * 1000,
  })
  return JSON.parse(output) as {
    readonly outcome: string
    readonly problem: string
    readonly seconds: number
    readonly megabytes: number
  }
}

test.each(Object.entries(CASES))(
  '%s: a graph, or an error of this package',
  (name, { make, code = 'a graph' }) => {
    const result = run(make())
    if (process.env.SHOW) console.log(name, JSON.stringify(result).slice(0, 400))
    expect(result.outcome).toBe(code)
    expect(result.megabytes).toBeLessThan(MEGABYTES)
  },
)

import { readdirSync, readFileSync } from 'node:fs'
import { FourierFTError } from '@fourierft/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeGraph, type NewGraph } from './encode.js'
import { readModel } from './model.js'
import { DataType, Model } from './schema.js'
import { field, floatField, message } from './wire-message.js'

const folder = new URL('../__fixtures__/', import.meta.url)
const fixtures = readdirSync(folder)
  .filter((name) => name.endsWith('.onnx'))
  .map((name) => ({ name, bytes: new Uint8Array(readFileSync(new URL(name, folder))) }))
/** For the full count: FOURIERFT_MUTANTS=100000. */
const MUTANTS = Number(process.env.FOURIERFT_MUTANTS ?? 10_000)

/** y = x·w, with unknown fields in the model and in the graph. */
function sample(graph: Partial<NewGraph> = {}) {
  const body = encodeGraph({
    name: 'main',
    nodes: [{ name: 'product', opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
    inputs: [{ name: 'x', dataType: DataType.float, dims: ['T', 2] }],
    outputs: [{ name: 'y', dataType: DataType.float, dims: ['T', 2] }],
    initializers: [{ name: 'w', dims: [2, 2], dataType: DataType.float, data: new Uint8Array(16).fill(7) }],
    ...graph,
  })
  body.insert([field(900, 'unknown'), floatField(901, 0.5)])
  const parts: Uint8Array[] = []
  message(field(Model.irVersion, 8), field(Model.graph, body), field(902, 17n)).writeTo(parts)
  return new Uint8Array(Buffer.concat(parts))
}

describe('a model that is read and written', () => {
  test('there are fixtures', () => expect(fixtures.length).toBeGreaterThanOrEqual(4))

  test.each(fixtures)('$name keeps every byte', ({ bytes }) => {
    expect(Buffer.compare(readModel(bytes).toBytes(), bytes)).toBe(0)
  })

  test('unchanged is one view of the file, not a copy', () => {
    const bytes = sample()
    const parts = readModel(bytes).toParts()
    expect(parts).toHaveLength(1)
    expect(parts[0]?.buffer).toBe(bytes.buffer)
    expect(parts[0]).toEqual(bytes)
  })

  test('unknown fields stay where they are, at any place and of any value', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.integer({ min: 100, max: 2 ** 29 - 1 }), (payload, number) => {
        const parts: Uint8Array[] = [sample()]
        message(field(number, payload), field(number, -1)).writeTo(parts)
        const bytes = new Uint8Array(Buffer.concat(parts))
        expect(readModel(bytes).toBytes()).toEqual(bytes)
      }),
    )
  })

  test('external data are referred to, not read', () => {
    const tensor = encodeGraph({
      name: '',
      nodes: [],
      outputs: [],
      initializers: [
        { name: 'w', dims: [2 ** 20, 2 ** 20], dataType: DataType.float, data: new Uint8Array() },
      ],
    })
    const initializer = tensor.last(5)?.message('w')
    const entry = (key: string, value: string) => field(13, message(field(1, key), field(2, value)))
    initializer?.insert([
      entry('location', 'w.bin'),
      entry('offset', '4096'),
      entry('length', '17'),
      field(14, 1),
    ])
    const parts: Uint8Array[] = []
    message(field(Model.irVersion, 8), field(Model.graph, tensor)).writeTo(parts)
    const w = readModel(new Uint8Array(Buffer.concat(parts))).graph.initializers.get('w')
    expect(w).toMatchObject({
      dims: [2 ** 20, 2 ** 20],
      external: { location: 'w.bin', offset: 4096, length: 17 },
    })
    expect(w?.data()).toBeUndefined()
  })
})

describe('edits', () => {
  test('a node is followed by another one, and nothing else moves', () => {
    const bytes = sample()
    const model = readModel(bytes)
    const [product] = model.graph.nodes
    if (!product) throw new Error('the sample has a node')
    product.setOutput(0, 'y_base')
    model.graph.insertAfter(product, [
      {
        name: 'adapted',
        opType: 'FourierFT',
        domain: 'fourierft',
        inputs: ['y_base', 'c'],
        outputs: ['y'],
        attributes: {
          alpha: { float: 0.5 },
          axes: { ints: [-1, 3] },
          body: { graph: { name: 'g', nodes: [], outputs: [] } },
        },
      },
    ])
    const w = { name: 'c0', dims: [1], dataType: DataType.int64, data: new Uint8Array(8) }
    model.graph.addInitializer(w)
    model.graph.addInput({ name: 'c', dataType: DataType.float, dims: ['n', 3] })
    model.addOpsetImport('fourierft', 1)
    model.raiseIrVersion(9)
    model.addFunction({
      domain: 'fourierft',
      name: 'FourierFT',
      inputs: ['base', 'c'],
      outputs: ['y'],
      attributes: ['alpha'],
      nodes: [{ opType: 'Identity', inputs: ['base'], outputs: ['y'] }],
      opsetImports: new Map([['', 17]]),
    })
    const edited = model.toBytes()
    expect(edited).toHaveLength(model.size)

    const again = readModel(edited)
    expect(again.irVersion).toBe(9)
    expect(again.graph.nodes.map(({ name, inputs, outputs }) => [name, inputs, outputs])).toEqual([
      ['product', ['x', 'w'], ['y_base']],
      ['adapted', ['y_base', 'c'], ['y']],
    ])
    const [, adapted] = again.graph.nodes
    expect(adapted?.attribute('alpha')?.float).toBe(0.5)
    expect(adapted?.attribute('axes')?.ints).toEqual(BigInt64Array.of(-1n, 3n))
    expect(adapted?.subgraphs.map(({ path }) => path)).toEqual(['/adapted.body'])
    expect(again.graph.inputs.map(({ name, dims }) => [name, dims])).toEqual([
      ['x', ['T', 2]],
      ['c', ['n', 3]],
    ])
    expect(again.graph.initializers.get('w')?.data()).toEqual(new Uint8Array(16).fill(7))
    expect(again.functions).toEqual([{ domain: 'fourierft', name: 'FourierFT' }])
    expect(again.opsetImports.get('fourierft')).toBe(1)
    // What is unknown is still there, and weights were not copied.
    expect(Buffer.from(edited).includes('unknown')).toBe(true)
    const weights = model.graph.initializers.get('w')?.data()
    expect(weights?.buffer).toBe(bytes.buffer)
    expect(model.toParts().some(({ buffer }) => buffer === bytes.buffer)).toBe(true)
  })

  test('an edit inside of a subgraph changes the file', () => {
    const inner = { name: 'inside', opType: 'Relu', inputs: ['x'], outputs: ['z'] }
    const branch = { graph: { name: 'then', nodes: [inner], outputs: [{ name: 'z' }] } }
    const node = {
      name: 'if',
      opType: 'If',
      inputs: ['b'],
      outputs: ['y'],
      attributes: { then_branch: branch },
    }
    const model = readModel(sample({ nodes: [node] }))
    expect(model.graph.consumersOf('x').map(({ name }) => name)).toEqual(['inside'])
    model.graph.graphs()[1]?.nodes[0]?.setInput(0, 'w')
    expect(
      readModel(model.toBytes())
        .graph.consumersOf('w')
        .map(({ name }) => name),
    ).toEqual(['inside'])
  })

  test('names that are taken are refused', () => {
    const { graph } = readModel(sample())
    expect(() => graph.addInput({ name: 'w', dataType: 1, dims: [] })).toThrow(/has a value "w" already/)
    expect(() => graph.nodes[0]?.setInput(2, 'z')).toThrow(/node "product" \(MatMul\).* has no input 2/)
  })
})

describe('bad files', () => {
  const refused = (bytes: Uint8Array) => {
    try {
      exercise(bytes)
      return undefined
    } catch (error) {
      if (!FourierFTError.isInstance(error)) throw error
      expect(error.message).toContain('bad.onnx')
      return error.code
    }
  }

  test.each([
    ['an empty file', new Uint8Array()],
    ['a text', new TextEncoder().encode('<!doctype html><html>not found</html>')],
    ['a zip file', new TextEncoder().encode('PK\u0003\u0004')],
    ['a length beyond the end', new Uint8Array([0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0])],
    ['an endless integer', new Uint8Array(100).fill(0xff)],
    ['groups in groups', new Uint8Array(100_000).fill(0x0b)],
  ])('%s', (_, bytes) => expect(refused(bytes)).toBe('INVALID_ONNX'))

  test.each([
    ['no operator', { opType: '', inputs: ['x'], outputs: ['y'] }, /has no operator type/],
    ['no values', { opType: 'Relu', inputs: [], outputs: [] }, /neither an input nor an output/],
  ])('a node with %s', (_, node, message) => {
    const bytes = sample({ nodes: [node] })
    expect(refused(bytes)).toBe('INVALID_ONNX')
    expect(() => readModel(bytes)).toThrow(message)
  })

  test.each([2n ** 63n - 1n, -1n])('a version of %s', (version) => {
    for (const wrong of [
      field(Model.opsetImport, message(field(1, 'a domain'), field(2, version))),
      field(Model.irVersion, version),
    ]) {
      const parts: Uint8Array[] = [sample()]
      message(wrong).writeTo(parts)
      expect(refused(new Uint8Array(Buffer.concat(parts)))).toBe('INVALID_ONNX')
    }
  })

  test('a length beyond 32 bits is not cut down to one that fits', () => {
    // 2^32 + 1, for a field of one byte.
    const bytes = Buffer.concat([sample(), Buffer.from([0x7a, 0x81, 0x80, 0x80, 0x80, 0x10, 0])])
    expect(refused(bytes)).toBe('INVALID_ONNX')
  })

  test.each([undefined, null, 'model.onnx', 7, [1, 2], {}])('%j is no file', (data) => {
    // As JavaScript may call it.
    expect(() => Reflect.apply(readModel, undefined, [data])).toThrow(/expected the model's bytes/)
  })

  test('graphs nested without end', () => {
    let graph: NewGraph = { name: 'g', nodes: [], outputs: [] }
    for (let i = 0; i < 200; i++)
      graph = {
        ...graph,
        nodes: [{ opType: 'If', inputs: [], outputs: [], attributes: { then_branch: { graph } } }],
      }
    expect(refused(sample(graph))).toBe('INVALID_ONNX')
  })

  test('dims that do not fit the data name the tensor', () => {
    const wrong = { name: 'w', dims: [2 ** 40, 2 ** 40], dataType: DataType.float, data: new Uint8Array(16) }
    const tensor = readModel(sample({ initializers: [wrong] })).graph.initializers.get('w')
    expect(() => tensor?.data()).toThrow(/tensor "w".*16 are stored/)
  })

  test('cut off at any byte: refused, or a shorter model', () => {
    const bytes = sample()
    for (let length = 0; length < bytes.length; length++) refused(bytes.subarray(0, length))
    expect(refused(bytes.subarray(0, 20))).toBe('INVALID_ONNX')
  })

  test(`${MUTANTS} mutated models: an error of ours, or the same bytes again`, () => {
    const small = [...fixtures.map(({ bytes }) => bytes), sample()].filter(({ length }) => length < 60_000)
    const random = lcg(20261124)
    let refusals = 0
    for (let i = 0; i < MUTANTS; i++) {
      const source = small[i % small.length] ?? new Uint8Array()
      const mutant = mutate(source, random)
      const code = refused(mutant)
      if (code !== undefined) refusals++
      // Where the bytes lie, and in what kind of view, changes nothing.
      const offset = 1 + random(8)
      const pool = Buffer.alloc(mutant.length + offset)
      pool.set(mutant, offset)
      expect(refused(pool.subarray(offset))).toBe(code)
    }
    expect(refusals).toBeGreaterThan(0)
    expect(refusals).toBeLessThan(MUTANTS)
  }, 600_000)
})

/** Reads all that can be read, and writes: unchanged bytes. */
function exercise(bytes: Uint8Array): void {
  const model = readModel(bytes, { file: 'bad.onnx' })
  for (const graph of model.graph.graphs()) {
    const read: unknown[] = graph.nodes.map(({ inputs, outputs, metadata }) => [inputs, outputs, metadata])
    for (const tensor of graph.initializers.values()) tensor.data()
    read.push(graph.inputs, graph.outputs, graph.valueInfos)
  }
  if (Buffer.compare(model.toBytes(), bytes) !== 0) throw new Error('bytes changed')
}

/** One to four faults: a bit, a byte, a cut, a part taken out, doubled, or overwritten by lengths without end. */
function mutate(source: Uint8Array, random: (below: number) => number): Uint8Array {
  let bytes = Uint8Array.from(source)
  for (let faults = 1 + random(4); faults > 0; faults--) {
    const at = random(bytes.length + 1)
    const to = Math.min(bytes.length, at + random(64))
    const kind = random(6)
    if (kind === 0 && at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8))
    else if (kind === 1 && at < bytes.length) bytes[at] = random(256)
    else if (kind === 2) bytes = bytes.slice(0, at)
    else if (kind === 3) bytes = joined(bytes.subarray(0, at), bytes.subarray(to))
    else if (kind === 4) bytes = joined(bytes.subarray(0, to), bytes.subarray(at))
    else bytes.fill(0xff, at, Math.min(to, at + 5))
  }
  return bytes
}

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts))
}

/** Numbers in [0, below), the same on every run. @see Numerical Recipes' constants */
function lcg(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

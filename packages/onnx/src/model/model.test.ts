/** Models are read, edited and written, and broken files are rejected. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MODEL_NAMES, modelBytes } from '../__fixtures__/model-files.js'
import { rejectionCode, sampleModel } from '../__fixtures__/sample-model.js'
import { createModel } from './create-model.js'
import { encodeGraph, type NewGraph } from './encode.js'
import { readModel } from './model.js'
import { DataType, Model } from './schema.js'
import { field, message } from './wire-message.js'

const fixtures = MODEL_NAMES.map((name) => ({ name, bytes: modelBytes(name) }))

describe('reading and writing', () => {
  test('there are at least four fixtures', () => expect(fixtures.length).toBeGreaterThanOrEqual(4))

  test.each(fixtures)('$name keeps every byte', ({ bytes }) => {
    expect(Buffer.compare(readModel(bytes).toBytes(), bytes)).toBe(0)
  })

  test('an unchanged model is one view of the file, not a copy', () => {
    const bytes = sampleModel()
    const parts = readModel(bytes).toParts()
    expect(parts).toHaveLength(1)
    expect(parts[0]?.buffer).toBe(bytes.buffer)
    expect(parts[0]).toEqual(bytes)
  })

  test('unknown fields of any number and value stay where they are', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.integer({ min: 100, max: 2 ** 29 - 1 }), (payload, number) => {
        const parts: Uint8Array[] = [sampleModel()]
        message(field(number, payload), field(number, -1)).writeTo(parts)
        const bytes = new Uint8Array(Buffer.concat(parts))
        expect(readModel(bytes).toBytes()).toEqual(bytes)
      }),
    )
  })

  test('external data are located, not read', () => {
    const tensor = encodeGraph({
      name: '',
      nodes: [],
      outputs: [],
      initializers: [
        { name: 'w', dims: [2 ** 20, 2 ** 20], dataType: DataType.float, data: new Uint8Array() },
      ],
    })
    const initializer = tensor.last(5)?.editableMessage('w')
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
  test('inserting a node after another moves nothing else', () => {
    const bytes = sampleModel()
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
    // Unknown fields are kept, and weights are not copied.
    expect(Buffer.from(edited).includes('unknown')).toBe(true)
    const weights = model.graph.initializers.get('w')?.data()
    expect(weights?.buffer).toBe(bytes.buffer)
    expect(model.toParts().some(({ buffer }) => buffer === bytes.buffer)).toBe(true)
  })

  test('an edit in a subgraph changes the file', () => {
    const inner = { name: 'inside', opType: 'Relu', inputs: ['x'], outputs: ['z'] }
    const subgraph = { graph: { name: 'then', nodes: [inner], outputs: [{ name: 'z' }] } }
    const node = {
      name: 'if',
      opType: 'If',
      inputs: ['b'],
      outputs: ['y'],
      attributes: { then_branch: subgraph },
    }
    const model = readModel(sampleModel({ nodes: [node] }))
    expect(model.graph.consumersOf('x').map(({ name }) => name)).toEqual(['inside'])
    model.graph.graphs()[1]?.nodes[0]?.setInput(0, 'w')
    expect(
      readModel(model.toBytes())
        .graph.consumersOf('w')
        .map(({ name }) => name),
    ).toEqual(['inside'])
  })

  test('inputs and attributes of a node are added, replaced and removed', () => {
    const model = readModel(sampleModel())
    const [node] = model.graph.nodes
    node.addInput('more')
    node.setAttribute('axis', { int: 3 })
    node.setAttribute('axis', { int: 4 })
    node.setAttribute('gone', { ints: [1, 2] })
    node.removeAttribute('gone')
    expect(model.graph.consumersOf('more')).toEqual([node])
    const [read] = readModel(model.toBytes()).graph.nodes
    expect(read.inputs).toEqual(['x', 'w', 'more'])
    expect(Array.from(read.attributes.values(), ({ name, int }) => [name, int])).toEqual([['axis', 4n]])
  })

  test('the opset changes in the model and in its functions', () => {
    const model = createModel(
      { name: 'main', nodes: [{ opType: 'Neg', inputs: ['x'], outputs: ['y'] }], outputs: [{ name: 'y' }] },
      { opset: 14 },
    )
    const opsetImports = new Map([
      ['', 14],
      ['other', 1],
    ])
    model.addFunction({ domain: 'd', name: 'f', inputs: ['a'], outputs: ['b'], nodes: [], opsetImports })
    model.addOpsetImport('d', 2)
    model.setOpset(16)
    const read = readModel(model.toBytes())
    expect([...read.opsetImports]).toEqual([
      ['', 16],
      ['d', 2],
    ])
    expect([...(read.functionBody({ domain: 'd', name: 'f' })?.opsetImports ?? [])]).toEqual([
      ['', 16],
      ['other', 1],
    ])
  })

  test('rejects names that exist already, and inputs that a node does not have', () => {
    const { graph } = readModel(sampleModel())
    expect(() => graph.addInput({ name: 'w', dataType: 1, dims: [] })).toThrow(/has a value "w" already/)
    expect(() => graph.nodes[0]?.setInput(2, 'z')).toThrow(/node "product" \(MatMul\).* has no input 2/)
  })
})

describe('bad files', () => {
  test.each([
    ['an empty file', new Uint8Array()],
    ['text', new TextEncoder().encode('<!doctype html><html>not found</html>')],
    ['a zip file', new TextEncoder().encode('PK\u0003\u0004')],
    ['a length beyond the end', new Uint8Array([0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0])],
    ['an endless integer', new Uint8Array(100).fill(0xff)],
    ['nested groups', new Uint8Array(100_000).fill(0x0b)],
  ])('rejects %s', (_, bytes) => expect(rejectionCode(bytes)).toBe('INVALID_ONNX'))

  test.each([
    ['no operator', { opType: '', inputs: ['x'], outputs: ['y'] }, /has no operator type/],
    ['no values', { opType: 'Relu', inputs: [], outputs: [] }, /neither an input nor an output/],
  ])('rejects a node with %s', (_, node, message) => {
    const bytes = sampleModel({ nodes: [node] })
    expect(rejectionCode(bytes)).toBe('INVALID_ONNX')
    expect(() => readModel(bytes)).toThrow(message)
  })

  test.each([2n ** 63n - 1n, -1n])('rejects the version %s', (version) => {
    for (const wrong of [
      field(Model.opsetImport, message(field(1, 'a domain'), field(2, version))),
      field(Model.irVersion, version),
    ]) {
      const parts: Uint8Array[] = [sampleModel()]
      message(wrong).writeTo(parts)
      expect(rejectionCode(new Uint8Array(Buffer.concat(parts)))).toBe('INVALID_ONNX')
    }
  })

  test('rejects a length beyond 32 bits', () => {
    // 2^32 + 1, for a field of one byte.
    const bytes = Buffer.concat([sampleModel(), Buffer.from([0x7a, 0x81, 0x80, 0x80, 0x80, 0x10, 0])])
    expect(rejectionCode(bytes)).toBe('INVALID_ONNX')
  })

  test.each([undefined, null, 'model.onnx', 7, [1, 2], {}])('rejects %j', (data) => {
    // A caller in JavaScript may pass anything.
    expect(() => Reflect.apply(readModel, undefined, [data])).toThrow(/expected the model's bytes/)
  })

  test('rejects 200 nested graphs', () => {
    let graph: NewGraph = { name: 'g', nodes: [], outputs: [] }
    for (let i = 0; i < 200; i++)
      graph = {
        ...graph,
        nodes: [{ opType: 'If', inputs: [], outputs: [], attributes: { then_branch: { graph } } }],
      }
    expect(rejectionCode(sampleModel(graph))).toBe('INVALID_ONNX')
  })

  test('names the tensor whose dims do not fit its data', () => {
    const wrong = { name: 'w', dims: [2 ** 40, 2 ** 40], dataType: DataType.float, data: new Uint8Array(16) }
    const tensor = readModel(sampleModel({ initializers: [wrong] })).graph.initializers.get('w')
    expect(() => tensor?.data()).toThrow(/tensor "w".*16 are stored/)
  })

  test('a file cut off at any byte is rejected, or is a shorter model', () => {
    const bytes = sampleModel()
    for (let length = 0; length < bytes.length; length++) rejectionCode(bytes.subarray(0, length))
    expect(rejectionCode(bytes.subarray(0, 20))).toBe('INVALID_ONNX')
  })
})

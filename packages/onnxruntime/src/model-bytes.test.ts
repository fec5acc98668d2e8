/** Models in every kind of buffer; modules with the names of members of `Object.prototype`. */
import { createAdapter, createConfig } from '@fourierft/core'
import { createModel, DataType } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { createSession } from './create-session.js'

/** Returns a model of y = x·w for the module `name`. */
function model({ name = 'a.q', x = 'x', y = 'y' } = {}): Uint8Array {
  const value = (valueName: string) => ({ name: valueName, dataType: DataType.float, dims: ['rows', 4] })
  const data = new Uint8Array(Float32Array.from({ length: 16 }, (_, i) => Math.sin(i)).buffer)
  const nodes = [
    { name: `/${name.replaceAll('.', '/')}/MatMul`, opType: 'MatMul', inputs: [x, 'w'], outputs: [y] },
  ]
  const initializers = [{ name: 'w', dims: [4, 4], dataType: DataType.float, data }]
  return createModel(
    { name: 'main', nodes, inputs: [value(x)], outputs: [value(y)], initializers },
    { opset: 17 },
  ).toBytes()
}

const adapterOf = (module: string) =>
  createAdapter(
    createConfig({ nFrequency: 4, initWeights: false, targetModules: [module] }),
    Object.fromEntries([[module, [4, 4] as const]]),
  )
const x = new ort.Tensor('float32', Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), [2, 4])

function buffers(): [string, Uint8Array | ArrayBuffer | SharedArrayBuffer][] {
  const bytes = model()
  const shared = new SharedArrayBuffer(bytes.length)
  new Uint8Array(shared).set(bytes)
  const pool = Buffer.alloc(bytes.length + 3)
  pool.set(bytes, 3)
  return [
    ['an ArrayBuffer', bytes.slice().buffer],
    ['a SharedArrayBuffer', shared],
    ['a view of a SharedArrayBuffer', new Uint8Array(shared)],
    ['a Buffer with an odd offset', pool.subarray(3)],
  ]
}

describe.each(['auto', false] as const)('native: %s', (native) => {
  test.each(buffers())('accepts a model in %s', async (_, bytes) => {
    const outputs: unknown[] = []
    for (const source of [model(), bytes, async () => ({ bytes })]) {
      const session = await createSession(source, { native })
      const base = (await session.run({ x })).y?.data
      await session.loadAdapter(adapterOf('a.q'))
      const adapted = (await session.run({ x })).y?.data
      await session.mergeAdapter()
      outputs.push([base, adapted, (await session.run({ x })).y?.data])
      await session.release()
      expect(adapted).not.toEqual(base)
    }
    expect(outputs[1]).toEqual(outputs[0])
    expect(outputs[2]).toEqual(outputs[0])
  })

  test.each(['constructor', 'toString', 'valueOf', '__proto__'])(
    'adapts a module named %s, with an input of that name',
    async (name) => {
      const session = await createSession(model({ name: `block.${name}`, x: name, y: 'y' }), { native })
      await session.loadAdapter(adapterOf(`block.${name}`))
      const feeds = Object.fromEntries([[name, x]])
      const perRow = await session.run(feeds, { adapters: ['default', null] })
      expect(perRow.y?.dims).toEqual([2, 4])
      await session.release()
    },
  )
})

test.each(['constructor', 'toString', 'valueOf'])('rejects a missing module named %s', async (module) => {
  const session = await createSession(model())
  await expect(session.loadAdapter(adapterOf(module))).rejects.toMatchObject({
    code: 'MODULE_NOT_FOUND',
    details: { module },
  })
  await session.release()
})

test.each([null, 7, {}, [1]])('rejects %j as a model', async (source) => {
  const opened: Promise<unknown> = Reflect.apply(createSession, undefined, [source])
  await expect(opened).rejects.toMatchObject({ code: 'INVALID_OPTION', details: { option: 'model' } })
})

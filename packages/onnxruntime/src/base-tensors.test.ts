/** Adapters whose files contain weights of the base model: PEFT saves the embeddings if the output layer is adapted. */
import { readFileSync } from 'node:fs'
import {
  Adapter,
  createAdapter,
  createConfig,
  decodeFloats,
  encodeFloats,
  type FloatDtype,
  loadAdapter,
  type Tensor,
} from '@fourierft/core'
import { readModel } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { afterEach, describe, expect, test } from 'vitest'
import type { AdaptedSession } from './adapted-session.js'
import { createSession } from './create-session.js'

const url = new URL('../../onnx/src/__fixtures__/gpt2-torchscript.onnx', import.meta.url)
const { graph } = readModel(new Uint8Array(readFileSync(url)))
const floatsOf = (name: string) => {
  const bytes = graph.initializers.get(name)?.data()
  if (!bytes) throw new Error(`the fixture has no ${name}`)
  return Float32Array.from(decodeFloats({ dtype: 'F32', bytes }))
}
const HEAD = [40, 16] as const
/** The weight as `[out, in]`; the file contains it as `[in, out]`. */
const lmHead = Float32Array.from({ length: 640 }, (_, i) => {
  const weight = floatsOf('onnx::MatMul_591')
  return weight[(i % 16) * 40 + Math.floor(i / 16)]
})
const wte = floatsOf('model.transformer.wte.weight')

const stored = (values: Float32Array, shape: readonly number[], dtype: FloatDtype = 'F32'): Tensor => ({
  dtype,
  shape,
  bytes: encodeFloats(values, dtype),
})

/** Returns an adapter with these weights of the base model, as PEFT's `save_embedding_layers` saves them. */
function adapterWith(tensors: Record<string, Tensor>) {
  const config = createConfig({
    nFrequency: 30,
    scaling: 90,
    initWeights: false,
    targetModules: ['lm_head', 'c_attn'],
  })
  const { modules } = createAdapter(config, { lm_head: HEAD, 'transformer.h.0.attn.c_attn': [48, 16] })
  const baseTensors = new Map(
    Object.entries(tensors).map(([name, tensor]) => [`base_model.model.${name}`, tensor]),
  )
  return new Adapter({ config, modules, baseTensors })
}

const open: AdaptedSession[] = []
afterEach(async () => {
  for (const session of open.splice(0)) await session.release()
})
async function logits(adapter?: Adapter): Promise<Float32Array> {
  const adapters = adapter && (await loadAdapter(adapter.toBytes(), { onWarning: () => {} }))
  const session = await createSession(url, { native: false, ...(adapters && { adapters }) })
  open.push(session)
  const ids = BigInt64Array.from({ length: 8 }, (_, i) => BigInt((3 * i) % 20))
  const results = await session.run({ x: new ort.Tensor('int64', ids, [1, 8]) })
  return results[session.outputNames[0]]?.data as Float32Array
}

describe('weights of the same base model', () => {
  test.each(['F32', 'BF16', 'F16'] as const)('in %s do not change the outputs', async (dtype) => {
    const plain = await logits(adapterWith({}))
    expect(plain).not.toEqual(await logits())
    const adapter = adapterWith({
      'transformer.wte.weight': stored(wte, HEAD, dtype),
      'lm_head.base_layer.weight': stored(lmHead, HEAD, dtype),
    })
    expect(await logits(adapter)).toEqual(plain)
  })

  test('are ignored if the model has no weights of their names, as in PEFT', async () => {
    const adapter = adapterWith({
      'model.embed_tokens.weight': stored(new Float32Array(36), [9, 4]),
      'lm_head.base_layer.bias': stored(new Float32Array(40), [40]),
      'lm_head.lora_A.weight': stored(new Float32Array(4), [4]),
    })
    expect(await logits(adapter)).toEqual(await logits(adapterWith({})))
  })
})

describe('weights of another base model are rejected', () => {
  const withOneChange = (values: Float32Array) => values.map((value, i) => (i === 17 ? value + 0.5 : value))
  test.each<[string, Tensor, string]>([
    ['lm_head.base_layer.weight', stored(withOneChange(lmHead), HEAD), 'other numbers'],
    ['transformer.wte.weight', stored(withOneChange(wte), HEAD, 'BF16'), 'other numbers'],
    ['transformer.wte.weight', stored(new Float32Array(672), [42, 16]), '[42, 16]'],
    ['lm_head.base_layer.weight', stored(new Float32Array(672), [42, 16]), '[42, 16]'],
    ['transformer.ln_f.bias', stored(new Float32Array(16).fill(3), [16]), 'other numbers'],
  ])('%s', async (name, tensor, problem) => {
    await expect(logits(adapterWith({ [name]: tensor }))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(problem),
      details: { tensor: `base_model.model.${name}` },
    })
  })

  test('even if the session has found all layers of the adapter before', async () => {
    const session = await createSession(url, { native: false, adapters: adapterWith({}) })
    open.push(session)
    const other = adapterWith({ 'transformer.wte.weight': stored(withOneChange(wte), HEAD) })
    await expect(session.loadAdapter(other, { name: 'other' })).rejects.toMatchObject({ code: 'UNSUPPORTED' })
    expect(session.listAdapters()).toEqual(['default'])
  })
})

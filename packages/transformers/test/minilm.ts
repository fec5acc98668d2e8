/**
 * A real encoder, paraphrase-MiniLM-L3-v2, in transformers.js, with an adapter that PEFT trained on real emails. The expected outputs are in the
 * fixtures of `@fourierft/onnxruntime`, and `packages/onnxruntime/scripts/minilm.js` fetches the model.
 */
import type { Adapter } from '@fourierft/core'
import { AutoModel, type DeviceType, PretrainedConfig, Tensor } from '@huggingface/transformers'
import { expect } from 'vitest'
import { decodeArray, type EncodedArray } from '../../onnxruntime/test/encoded-array.js'
import { attach } from '../src/attach.js'

/** The folder of the model in the project's cache. */
export const MINILM = 'minilm-0.2.1'
/** The name of the output with the embeddings, `[texts, 384]`. */
const EMBEDDINGS = '461'
/** The project's limit for whole models: the largest error, relative to the largest value. */
const LIMIT = 1e-4

export interface MiniLm {
  readonly adapter: Adapter
  readonly vectors: {
    readonly sentences: EncodedArray
    readonly base: EncodedArray
    readonly adapted: EncodedArray
  }
  readonly device: DeviceType
  readonly native: boolean
  /** The number of sentences. Default: all. */
  readonly count?: number
}

/** Compares the embeddings of the model with PyTorch and PEFT. `env.localModelPath` has to be the project's cache. */
export async function expectMiniLm(options: MiniLm): Promise<void> {
  const { adapter, vectors, device, native, count = vectors.sentences.shape[0] } = options
  // The model was not exported for transformers.js, so it has no configuration, and its file is not in a subfolder.
  const config = new PretrainedConfig({ model_type: 'bert' })
  const model = await AutoModel.from_pretrained(MINILM, { config, subfolder: '', dtype: 'fp32', device })
  const { data, shape } = decodeArray(vectors.sentences)
  const length = shape[1]
  const ids = BigInt64Array.from(data.subarray(0, count * length) as Uint16Array, BigInt)
  const inputs = {
    input_ids: new Tensor('int64', ids, [count, length]),
    attention_mask: new Tensor(
      'int64',
      ids.map((id) => (id === 0n ? 0n : 1n)),
      [count, length],
    ),
  }
  const embed = async () => (await model(inputs))[EMBEDDINGS].data as Float32Array
  const floats = (array: EncodedArray) =>
    (decodeArray(array).data as Float32Array).subarray(0, count * array.shape[1])
  const [base, adapted] = [floats(vectors.base), floats(vectors.adapted)]
  const original = await embed()
  expect(relativeError(original, base)).toBeLessThan(LIMIT)
  const adapters = await attach(model, { native })
  await adapters.loadAdapter(adapter)
  expect(relativeError(base, adapted)).toBeGreaterThan(1000 * LIMIT)
  expect(relativeError(await embed(), adapted)).toBeLessThan(LIMIT)
  adapters.disableAdapters()
  expect(await embed()).toEqual(original)
  await adapters.detach()
  expect(await embed()).toEqual(original)
  await model.dispose()
}

function relativeError(received: Float32Array, expected: Float32Array): number {
  expect(received.length).toBe(expected.length)
  const largest = (values: Float32Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return largest(received.map((value, i) => value - expected[i])) / largest(expected)
}

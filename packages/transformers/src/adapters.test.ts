/** The life cycle of adapters in models of transformers.js: calls of two steps, in Node with the native kernel and without. */
import { testAdapters } from '@fourierft/conformance/vitest'
import { env, PreTrainedModel, Tensor } from '@huggingface/transformers'
import { beforeAll, describe } from 'vitest'
import { QUERY, SHAPES } from './__fixtures__/tiny-model.js'
import { writeTinyModels } from './__fixtures__/write-tiny-model.js'
import { attach } from './attach.js'

const MODELS = writeTinyModels()
beforeAll(() => {
  env.localModelPath = MODELS
  env.allowRemoteModels = false
})

class TwoSteps extends PreTrainedModel {
  async twice(inputs: Record<string, Tensor>, between: () => unknown): Promise<Float32Array> {
    await this.forward(inputs)
    await between()
    return (await this.forward(inputs)).logits.data
  }
}

describe.each([true, false])('native: %s', (native) => {
  testAdapters(
    () => ({
      layer: { module: QUERY, shape: SHAPES[QUERY] as readonly [number, number] },
      head: { module: 'classifier', shape: [2, 16], hasBias: true },
      async create() {
        const model = (await TwoSteps.from_pretrained('tiny-bert', { dtype: 'fp32' })) as TwoSteps
        const adapters = await attach(model, { native })
        const ids = (from: bigint) => BigInt64Array.from({ length: 8 }, (_, i) => from + BigInt(i % 6))
        const inputs = {
          input_ids: new Tensor('int64', ids(2n), [2, 4]),
          attention_mask: new Tensor('int64', ids(1n).fill(1n), [2, 4]),
        }
        return {
          adapters,
          call: async () => (await model(inputs)).logits.data,
          callDuring: (happens) => model.twice(inputs, happens),
          async end() {
            await adapters.detach()
            await model.dispose()
          },
        }
      },
    }),
    { lacks: ['train', 'writeWeights'] },
  )
})

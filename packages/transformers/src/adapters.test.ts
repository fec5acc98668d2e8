/** The life cycle of adapters in a model of transformers.js: calls of two steps, in Node, with and without the native kernel. */
import { testAdapters } from '@fourierft/conformance/vitest'
import { BertForSequenceClassification, env, Tensor } from '@huggingface/transformers'
import { beforeAll, describe } from 'vitest'
import { QUERY, SHAPES } from './__fixtures__/tiny-model.js'
import { withTwoSteps } from './__fixtures__/two-steps.js'
import { writeTinyModels } from './__fixtures__/write-tiny-model.js'
import { attach } from './attach.js'

const MODELS = writeTinyModels()
beforeAll(() => {
  env.localModelPath = MODELS
  env.allowRemoteModels = false
})

/** Returns all outputs of the model, row by row. */
function rowsOf(outputs: Record<string, Tensor>): Float32Array {
  const rows = [0, 1].flatMap((row) =>
    ['last_hidden_state', 'logits'].flatMap((name) => {
      const data = outputs[name]?.data as Float32Array
      return [...data.subarray((row * data.length) / 2, ((row + 1) * data.length) / 2)]
    }),
  )
  return Float32Array.from(rows)
}

describe.each([true, false])('native: %s', (native) => {
  testAdapters(
    () => ({
      layer: { module: QUERY, shape: SHAPES[QUERY] },
      head: { module: 'classifier', shape: [2, 16], hasBias: true },
      // Sums of 16 and 32 products and 2·6 terms of the branch, each rounded, twice: 2·60·2⁻²⁴.
      tolerance: 1e-5,
      async create() {
        const model = withTwoSteps(
          await BertForSequenceClassification.from_pretrained('tiny-bert', { dtype: 'fp32' }),
        )
        const adapters = await attach(model, { native })
        const ids = (first: bigint) => BigInt64Array.from({ length: 8 }, (_, i) => first + BigInt(i % 6))
        const inputs = {
          input_ids: new Tensor('int64', ids(2n), [2, 4]),
          attention_mask: new Tensor('int64', ids(1n).fill(1n), [2, 4]),
        }
        return {
          adapters,
          call: async () => rowsOf(await model.forward(inputs)),
          callDuring: async (action) => rowsOf(await model.twice(inputs, action)),
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

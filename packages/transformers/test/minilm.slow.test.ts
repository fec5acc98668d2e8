/** A real encoder, paraphrase-MiniLM-L3-v2, in Node. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadAdapter, readSavedModule } from '@fourierft/core'
import { AutoModel, env, PretrainedConfig, Tensor } from '@huggingface/transformers'
import { describe, expect, test } from 'vitest'
import { attach } from '../src/attach.js'
import { expectMiniLm, MINILM } from './minilm.js'

const CACHE = fileURLToPath(new URL('../../../.cache', import.meta.url))
const MODEL = join(CACHE, MINILM, 'model.onnx')
const FOLDER = fileURLToPath(new URL('../../onnxruntime/test/__fixtures__/minilm', import.meta.url))
const hasModel = existsSync(MODEL)
const skipped = hasModel
  ? ''
  : ' (skipped: node packages/onnxruntime/scripts/minilm.js has not fetched the model)'

/** The name of the output with the last hidden state. */
const HIDDEN = 'onnx::Shape_422'

describe.skipIf(!hasModel)(`paraphrase-MiniLM-L3-v2${skipped}`, () => {
  test.each([true, false])('embeddings agree with PyTorch and PEFT; native: %s', async (native) => {
    env.localModelPath = CACHE
    env.allowRemoteModels = false
    expect.hasAssertions()
    await expectMiniLm({
      adapter: await loadAdapter(join(FOLDER, 'adapter')),
      vectors: JSON.parse(readFileSync(join(FOLDER, 'vectors.json'), 'utf8')),
      device: 'cpu',
      native,
    })
  })

  test('gets the head of BERT, and names its layers as BERT with a head does', async () => {
    env.localModelPath = CACHE
    env.allowRemoteModels = false
    const config = new PretrainedConfig({ model_type: 'bert' })
    const model = await AutoModel.from_pretrained(MINILM, { config, subfolder: '', dtype: 'fp32' })
    const adapters = await attach(model, { head: 'text-classification' })
    await adapters.addAdapter('mails', {
      targetModules: ['query', 'value'],
      nFrequency: 1000,
      scaling: 300,
      initWeights: false,
    })
    await adapters.giveHead('mails', { names: ['ham', 'spam'] }, { seed: 1, taskType: 'SEQ_CLS' })
    const adapter = await adapters.getAdapter()
    expect([...adapter.modules.keys()]).toContain('bert.encoder.layer.2.attention.self.value')
    expect(adapter.config.modulesToSave).toEqual(['classifier', 'score', 'bert.pooler.dense'])
    const ids = BigInt64Array.from([101, 7592, 2088, 102], BigInt)
    const inputs = {
      input_ids: new Tensor('int64', ids, [1, 4]),
      attention_mask: new Tensor(
        'int64',
        ids.map(() => 1n),
        [1, 4],
      ),
    }
    const { [HIDDEN]: hidden, logits } = await model(inputs)
    const layer = (module: string, out: number, x: Float32Array) => {
      const { weight, bias } = readSavedModule(adapter, module, { shape: [out, 384], hasBias: true })
      return Float32Array.from({ length: out }, (_, o) =>
        x.reduce((sum, value, i) => sum + weight[384 * o + i] * value, bias?.[o] ?? 0),
      )
    }
    const pooled = layer('bert.pooler.dense', 384, hidden.data.subarray(0, 384)).map(Math.tanh)
    const expected = layer('classifier', 2, pooled)
    expect(logits.dims).toEqual([1, 2])
    // Two consecutive sums of 384 products.
    const limit = 2 * 384 * 2 ** -24 * Math.max(...expected.map(Math.abs))
    for (const [i, value] of expected.entries()) expect(Math.abs(logits.data[i] - value)).toBeLessThan(limit)
    // The layers are those of the file: without the coefficients, the hidden state is another.
    adapters.setScale('mails', 0)
    expect((await model(inputs))[HIDDEN].data).not.toEqual(hidden.data)
    await model.dispose()
  })
})

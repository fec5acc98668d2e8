/** A real encoder, paraphrase-MiniLM-L3-v2, in Node. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadAdapter } from '@fourierft/core'
import { env } from '@huggingface/transformers'
import { describe, expect, test } from 'vitest'
import { expectMiniLm, MINILM } from './minilm.js'

const CACHE = fileURLToPath(new URL('../../../.cache', import.meta.url))
const MODEL = join(CACHE, MINILM, 'model.onnx')
const FOLDER = fileURLToPath(new URL('../../onnxruntime/test/__fixtures__/minilm', import.meta.url))
const hasModel = existsSync(MODEL)
const skipped = hasModel
  ? ''
  : ' (skipped: node packages/onnxruntime/scripts/minilm.js has not fetched the model)'

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
})

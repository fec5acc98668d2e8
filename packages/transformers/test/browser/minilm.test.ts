/** A real encoder, paraphrase-MiniLM-L3-v2, in a browser, on wasm and on WebGPU. */
import { loadAdapter } from '@fourierft/core'
import { env } from '@huggingface/transformers'
import { describe, expect, test } from 'vitest'
import { expectMiniLm, MINILM } from '../minilm.js'
import { serveWasm } from './serve-wasm.js'

const FOLDER = '/packages/onnxruntime/test/__fixtures__/minilm/'
const response = await fetch(`/.cache/${MINILM}/model.onnx`)
// For a missing file, the server sends its HTML page.
const hasModel = response.ok && !response.headers.get('content-type')?.includes('html')
const skipped = hasModel
  ? ''
  : ' (skipped: node packages/onnxruntime/scripts/minilm.js has not fetched the model)'

await response.body?.cancel()

describe.skipIf(!hasModel)(`paraphrase-MiniLM-L3-v2${skipped}`, () => {
  test.each(['wasm', 'webgpu'] as const)('embeddings agree with PyTorch and PEFT on %s', async (device) => {
    serveWasm()
    env.allowLocalModels = true
    env.allowRemoteModels = false
    env.localModelPath = '/.cache/'
    expect.hasAssertions()
    await expectMiniLm({
      adapter: await loadAdapter(new URL(`${FOLDER}adapter`, location.href)),
      vectors: await (await fetch(`${FOLDER}vectors.json`)).json(),
      device,
      native: false,
      // Without a GPU, WebGPU takes a minute for all sentences.
      count: 2,
    })
  })
})

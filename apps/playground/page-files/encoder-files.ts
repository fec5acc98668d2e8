/**
 * Provides the files of the encoder page. The build emits the adapter, the emails and the tokenizer. The preview server reads the model, which
 * is large and not always present, from the project's cache.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Plugin } from 'vite'
import { readEmails } from './emails.js'
import { prepareEncoder } from './prepare-encoder.js'
import { readPieces, tokenizerFiles } from './word-pieces.js'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const fixture = join(root, 'packages/onnxruntime/test/__fixtures__/minilm')

/** The configuration of the model for transformers.js. */
const config = {
  model_type: 'bert',
  architectures: ['BertModel'],
  hidden_size: 384,
  num_hidden_layers: 3,
  num_attention_heads: 12,
  intermediate_size: 1536,
  max_position_embeddings: 512,
  vocab_size: 30522,
  pad_token_id: 0,
}

/** @param model the file of the model. Default: the file that `packages/onnxruntime/scripts/minilm.js` fetches */
export function encoderFiles(model = join(root, '.cache/minilm-0.2.1/model.onnx')): Plugin {
  let prepared: Promise<Uint8Array> | undefined
  return {
    name: 'encoder-files',
    async generateBundle() {
      const emit = (fileName: string, source: Uint8Array | string) =>
        this.emitFile({ type: 'asset', fileName, source })
      for (const name of ['adapter_config.json', 'adapter_model.safetensors'])
        emit(`adapters/emails/${name}`, await readFile(join(fixture, 'adapter', name)))
      const pieces = await readPieces()
      for (const [name, content] of Object.entries({ 'config.json': config, ...tokenizerFiles(pieces) }))
        emit(`models/minilm/${name}`, JSON.stringify(content))
      emit('emails.json', JSON.stringify(await readEmails(join(fixture, 'vectors.json'), pieces)))
    },
    configurePreviewServer({ middlewares }) {
      middlewares.use('/models/minilm/onnx/model.onnx', (_, response, next) => {
        if (!existsSync(model)) {
          response.writeHead(404).end()
          return
        }
        prepared ??= readFile(model).then((bytes) => prepareEncoder(bytes, model))
        prepared.then((bytes) => {
          const headers = { 'content-type': 'application/octet-stream', 'content-length': bytes.length }
          response.writeHead(200, headers).end(bytes)
        }, next)
      })
    },
  }
}

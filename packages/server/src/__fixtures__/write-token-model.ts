/** A model with an output for each token: for the tasks that the exported models do not have. It has the tokenizer of the RoBERTa beside them. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { createModel, DataType, type NewTensor } from '../../../onnx/src/index.js'
import { MODELS } from './single-engine.js'

const VOCABULARY = 160
const WIDTH = 8

/**
 * Writes the model `tokens`. Has to be called at the top level of a test file.
 *
 * @returns the folder of the model's folder; it is removed after all tests
 */
export function writeTokenModel(): string {
  const root = mkdtempSync(join(tmpdir(), 'fourierft-'))
  afterAll(() => rmSync(root, { recursive: true, force: true }))
  const folder = join(root, 'tokens')
  mkdirSync(join(folder, 'onnx'), { recursive: true })
  cpSync(join(MODELS, 'roberta/tokenizer.json'), join(folder, 'tokenizer.json'))
  const tokenizer = JSON.parse(readFileSync(join(MODELS, 'roberta/tokenizer_config.json'), 'utf8'))
  // As in many models, the tokenizer does not know how much the model can read.
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ ...tokenizer, model_max_length: 1e30 }))
  writeFileSync(join(folder, 'onnx/model.onnx'), graph())
  const labels = Array.from({ length: VOCABULARY }, (_, i) => `${i % 2 === 0 ? 'B' : 'I'}-${i % 3}`)
  const config = { model_type: 'roberta', vocab_size: VOCABULARY, max_position_embeddings: 66, pad_token_id: 1, id2label: labels }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  return root
}

/** Embeddings, and a product for each output. */
function graph(): Uint8Array {
  const weight = (name: string, seed: number, ...dims: number[]): NewTensor => {
    const length = dims.reduce((product, size) => product * size, 1)
    const values = Float32Array.from({ length }, (_, i) => Math.sin(seed * (i + 1)))
    return { name, dims, dataType: DataType.float, data: new Uint8Array(values.buffer) }
  }
  const ids = (name: string) => ({ name, dataType: DataType.int64, dims: ['batch', 'sequence'] })
  const output = (name: string, ...dims: number[]) => ({ name, dataType: DataType.float, dims: ['batch', 'sequence', ...dims] })
  const product = (name: string) => ({ name: `/${name}/MatMul`, opType: 'MatMul', inputs: ['hidden', `${name}.weight`], outputs: [name] })
  const model = createModel(
    {
      name: 'main_graph',
      inputs: [ids('input_ids'), ids('attention_mask')],
      outputs: [output('logits', VOCABULARY), output('start_logits'), output('end_logits')],
      initializers: [
        weight('embeddings', 1.3, VOCABULARY, WIDTH),
        weight('logits.weight', 0.7, WIDTH, VOCABULARY),
        weight('start_logits.weight', 2.1, WIDTH),
        weight('end_logits.weight', 0.9, WIDTH),
      ],
      nodes: [
        { name: '/Gather', opType: 'Gather', inputs: ['embeddings', 'input_ids'], outputs: ['hidden'] },
        product('logits'),
        product('start_logits'),
        product('end_logits'),
      ],
    },
    { opset: 17 },
  )
  return model.toBytes()
}

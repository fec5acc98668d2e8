/**
 * A tiny model in the layout of transformers.js: a BERT of one layer without attention, whose outputs are a vector for each token and a score
 * for each of two labels. Real exports are in `test/__fixtures__`.
 */
import { type Adapter, createAdapter, createConfig, type Shape } from '@fourierft/core'
import { createModel, DataType, type NewNode, type NewTensor } from '@fourierft/onnx'

const WIDTH = 16
const WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'a', 'small', 'model', 'of', 'few', 'words']

export const QUERY = 'bert.encoder.layer.0.attention.self.query'
export const OUTPUT = 'bert.encoder.layer.0.output.dense'

/** The layers that adapters change, `[out, in]`. */
export const SHAPES: Readonly<Record<string, Shape>> = {
  [QUERY]: [2 * WIDTH, WIDTH],
  [OUTPUT]: [WIDTH, 2 * WIDTH],
}

/** Creates an adapter with a scaling that is large enough to change the output visibly. */
export function adapterFor(seed: number, shapes: Readonly<Record<string, Shape>> = SHAPES): Adapter {
  const config = createConfig({ nFrequency: 24, scaling: 30, initWeights: false })
  return createAdapter(config, shapes, { initialSeed: seed })
}

/** Returns the files of the model by their paths in its folder. With `isExternal`, the weights are in a separate file. */
export function tinyModel({ isExternal = false, labels = 2 } = {}): Record<string, string | Uint8Array<ArrayBuffer>> {
  const { model, weights } = tinyGraph(isExternal, labels)
  return {
    'onnx/model.onnx': model,
    ...(isExternal && { 'onnx/model.onnx_data': weights }),
    'config.json': JSON.stringify({
      model_type: 'bert',
      architectures: ['BertForSequenceClassification'],
      id2label: { 0: 'left', 1: 'right' },
      label2id: { left: 0, right: 1 },
      'transformers.js_config': { use_external_data_format: isExternal },
    }),
    'tokenizer_config.json': JSON.stringify({
      tokenizer_class: 'BertTokenizer',
      pad_token: '[PAD]',
      unk_token: '[UNK]',
      cls_token: '[CLS]',
      sep_token: '[SEP]',
      model_max_length: 8,
    }),
    'tokenizer.json': JSON.stringify({
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [],
      normalizer: {
        type: 'BertNormalizer',
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: null,
        lowercase: true,
      },
      pre_tokenizer: { type: 'BertPreTokenizer' },
      post_processor: null,
      decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
      model: {
        type: 'WordPiece',
        unk_token: '[UNK]',
        continuing_subword_prefix: '##',
        max_input_chars_per_word: 100,
        vocab: Object.fromEntries(WORDS.map((word, i) => [word, i])),
      },
    }),
  }
}

function tinyGraph(isExternal: boolean, labels: number): {
  readonly model: Uint8Array<ArrayBuffer>
  readonly weights: Uint8Array<ArrayBuffer>
} {
  const nodes: NewNode[] = []
  const initializers: NewTensor[] = []
  const weight = (name: string, ...dims: number[]) => {
    const length = dims.reduce((product, size) => product * size, 1)
    const seed = initializers.length + 1
    const values = Float32Array.from({ length }, (_, i) => 0.3 * Math.sin(seed * (i + 1)))
    initializers.push({ name, dims, dataType: DataType.float, data: new Uint8Array(values.buffer) })
    return name
  }
  const node = (name: string, opType: string, inputs: string[], output = `${name}_output_0`) => {
    nodes.push({ name, opType, inputs, outputs: [output] })
    return output
  }
  const linear = (module: string, x: string, [out, inner]: readonly number[], output?: string) => {
    const path = `/${module.replace(/\.(?!\d)/g, '/')}`
    const w = weight(`onnx::MatMul_${initializers.length}`, inner, out)
    const product = node(`${path}/MatMul`, 'MatMul', [x, w])
    return node(`${path}/Add`, 'Add', [weight(`${module}.bias`, out), product], output)
  }
  const words = weight('bert.embeddings.word_embeddings.weight', WORDS.length, WIDTH)
  const hidden = node('/bert/embeddings/Gather', 'Gather', [words, 'input_ids'])
  const inner = node('/bert/Tanh', 'Tanh', [linear(QUERY, hidden, SHAPES[QUERY] ?? [])])
  const outer = linear(OUTPUT, inner, SHAPES[OUTPUT] ?? [])
  const last = node('/bert/Add', 'Add', [hidden, outer], 'last_hidden_state')
  nodes.push({
    name: '/Mean',
    opType: 'ReduceMean',
    inputs: [last],
    outputs: ['mean'],
    attributes: { axes: { ints: [1] }, keepdims: { int: 0 } },
  })
  linear('classifier', 'mean', [labels, WIDTH], 'logits')
  const ids = (name: string) => ({ name, dataType: DataType.int64, dims: ['batch', 'sequence'] })
  const graph = {
    name: 'main_graph',
    inputs: [ids('input_ids'), ids('attention_mask')],
    outputs: [
      { name: 'last_hidden_state', dataType: DataType.float, dims: ['batch', 'sequence', WIDTH] },
      { name: 'logits', dataType: DataType.float, dims: ['batch', labels] },
    ],
    initializers,
    nodes,
  }
  const model = createModel(graph, { opset: 17 })
  const weights = new Uint8Array(initializers.reduce((size, { data }) => size + data.length, 0))
  if (isExternal) {
    let offset = 0
    for (const { name = '', data } of initializers) {
      weights.set(data, offset)
      model.graph.initializers.get(name)?.setData({ location: 'model.onnx_data', offset, length: data.length })
      offset += data.length
    }
  }
  return { model: Uint8Array.from(model.toBytes()), weights }
}

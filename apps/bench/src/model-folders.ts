/**
 * Writes model folders for transformers.js: the sentence encoder paraphrase-MiniLM-L3-v2, whose file has no tokenizer, and transformers with random
 * weights. Their vocabulary is made up: each word `w0`, `w1`, … is a token.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Adapter, loadAdapter } from '@fourierft/core'
import { DataType, findLinearLayers, readModel } from '@fourierft/onnx'
import { randomAdapter } from './random-adapter.js'
import { randomTransformer, type TransformerSize } from './random-transformer.js'

const N = 1000
const SPECIAL = ['[PAD]', '[UNK]']
/** The name of the token embeddings in the file. transformers.js expects them as the output `last_hidden_state`. */
const MINILM_TOKENS = 'onnx::Shape_422'
const MINILM_VOCABULARY = 30522

export interface ModelFolder {
  /** The name of the folder in `env.localModelPath`. */
  readonly name: string
  /** The directory of an adapter in PEFT's layout. */
  readonly adapterPath: string
  /** Makes an adapter with random coefficients on query and value. */
  adapter(seed: number): Adapter
}

/** A temporary folder of model folders, for `env.localModelPath`. */
export class ModelFolders {
  readonly root = mkdtempSync(join(tmpdir(), 'fourierft-bench-'))

  /** @param path the path of the file that `scripts/minilm.js` fetches */
  minilm(path: string): ModelFolder & { readonly moduleNames: (adapter: Adapter) => Record<string, string> } {
    const model = readModel(readFileSync(path), { file: path })
    const layers = findLinearLayers(model)
    const [tokens] = model.graph.nodes.filter(({ outputs }) => outputs.includes(MINILM_TOKENS))
    const name = 'last_hidden_state'
    model.graph.insertAfter(tokens, [{ opType: 'Identity', inputs: [MINILM_TOKENS], outputs: [name] }])
    model.graph.addOutput({ name, dataType: DataType.float, dims: ['batch_size', 'sequence_length', 384] })
    this.#write('minilm', model.toParts(), { model_type: 'bert' }, MINILM_VOCABULARY)
    return { ...this.#folder('minilm', layers), moduleNames: (adapter) => moduleNamesIn(path, adapter) }
  }

  encoder(name: string, size: TransformerSize): ModelFolder {
    const parts = randomTransformer('encoder', size)
    this.#write(name, parts, { model_type: 'bert' }, size.vocabulary)
    return this.#folder(name, layersOf(size))
  }

  decoder(name: string, size: TransformerSize): ModelFolder {
    const { layers, width, heads, positions } = size
    const config = {
      model_type: 'gpt2',
      architectures: ['GPT2LMHeadModel'],
      n_layer: layers,
      n_head: heads,
      n_embd: width,
      n_positions: positions,
      vocab_size: size.vocabulary,
    }
    this.#write(name, randomTransformer('decoder', size), config, size.vocabulary)
    return this.#folder(name, layersOf(size))
  }

  /** Copies the toy GPT-2 of the tests of `@fourierft/transformers`, an export with a tokenizer. */
  toy(): { readonly name: string; adapter(): Promise<Adapter> } {
    const name = 'toy'
    cpSync(
      new URL('../../../packages/transformers/test/__fixtures__/gpt2', import.meta.url),
      join(this.root, name),
      {
        recursive: true,
      },
    )
    return { name, adapter: () => loadAdapter(join(this.root, name, 'adapter-a')) }
  }

  /** Describes a model, and saves its first adapter in a directory. */
  #folder(name: string, layers: readonly LayerShape[]): ModelFolder {
    const adapted = layers.filter(({ module }) => /\.(query|value)$/.test(module ?? ''))
    const shapes = Object.fromEntries(
      adapted.map(({ module, outFeatures, inFeatures }) => [module, [outFeatures, inFeatures] as const]),
    )
    const adapter = (seed: number) => randomAdapter(shapes, N, seed)
    const adapterPath = join(this.root, name, 'adapter')
    const { config, model } = adapter(1).toBytes()
    mkdirSync(adapterPath)
    writeFileSync(join(adapterPath, 'adapter_config.json'), config)
    writeFileSync(join(adapterPath, 'adapter_model.safetensors'), model)
    return { name, adapterPath, adapter }
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true })
  }

  #write(name: string, parts: readonly Uint8Array[], config: object, vocabulary: number): void {
    const folder = join(this.root, name)
    mkdirSync(join(folder, 'onnx'), { recursive: true })
    const file = join(folder, 'onnx', 'model.onnx')
    writeFileSync(file, '')
    for (const part of parts) writeFileSync(file, part, { flag: 'a' })
    const json = (path: string, value: object) => writeFileSync(join(folder, path), JSON.stringify(value))
    json('config.json', config)
    json('tokenizer.json', tokenizer(vocabulary))
    json('tokenizer_config.json', {
      tokenizer_class: 'BertTokenizer',
      pad_token: SPECIAL[0],
      unk_token: SPECIAL[1],
      model_max_length: 512,
    })
  }
}

/** Returns a text of `words` words, each of them one token. */
export function text(words: number, seed = 0): string {
  return Array.from({ length: words }, (_, i) => `w${(seed * 31 + i * 7919) % 5000}`).join(' ')
}

interface LayerShape {
  readonly module: string | undefined
  readonly inFeatures: number
  readonly outFeatures: number
}

function layersOf({ layers, width }: TransformerSize): LayerShape[] {
  return Array.from({ length: layers }, (_, i) =>
    ['query', 'value'].map((name) => ({
      module: `layers.${i}.attention.${name}`,
      inFeatures: width,
      outFeatures: width,
    })),
  ).flat()
}

function tokenizer(vocabulary: number): object {
  const words = Array.from({ length: vocabulary - SPECIAL.length }, (_, i) => `w${i}`)
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
    post_processor: null,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
    model: {
      type: 'WordPiece',
      unk_token: SPECIAL[1],
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries([...SPECIAL, ...words].map((word, i) => [word, i])),
    },
  }
}

/** Loads the adapter on every layer of MiniLM that PEFT trained on real emails. */
export function trainedAdapter(): Promise<Adapter> {
  return loadAdapter(
    new URL('../../../packages/onnxruntime/test/__fixtures__/minilm/adapter', import.meta.url).pathname,
  )
}

/** Maps the modules of an adapter to the nodes of a model file whose module names end with the adapter's. */
export function moduleNamesIn(path: string, { modules }: Adapter): Record<string, string> {
  const layers = findLinearLayers(readModel(readFileSync(path), { file: path }))
  return Object.fromEntries(
    Array.from(modules.keys(), (module) => {
      const layer = layers.find((candidate) => candidate.module?.endsWith(module))
      return [module, layer?.node.name ?? module]
    }),
  )
}

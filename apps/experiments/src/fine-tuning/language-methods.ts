/** Adapts a language model to other texts by one method, and measures it on texts that it has not seen. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { type Adapter, linearSchedule, standardNormal } from '@fourierft/core'
import {
  attachBranches,
  crossEntropy,
  findLinearLayers,
  LOGITS,
  type OnnxModel,
  readLayer,
  readModel,
} from '@fourierft/onnx'
import { attach, evaluate, type ModelAdapters, train } from '@fourierft/transformers'
import { env, LogLevel, pipeline, type TextGenerationPipeline } from '@huggingface/transformers'
import { Tensor } from 'onnxruntime-node'
import type { Chapter } from './chapters.js'
import { fileSize, GraphTrainer, type TrainedInput } from './graph-trainer.js'
import { attachLora } from './lora-graph.js'
import { secondsSince } from './processor-time.js'
import { TokenBlocks } from './token-blocks.js'

export type Dtype = 'fp32' | 'q4'
const FILES = { fp32: 'model.onnx', q4: 'model_q4.onnx' } as const satisfies Record<Dtype, string>

/** A method with its rate. `defaults` is `train` with no option but `packing` and the seed, and an adapter without options. */
export type LanguageMethod =
  | { readonly kind: 'base'; readonly dtype: Dtype }
  | { readonly kind: 'defaults'; readonly dtype: Dtype }
  | {
      readonly kind: 'FourierFT'
      readonly dtype: Dtype
      readonly n: number
      readonly learningRate: number
      /** Default: all linear layers but the head. */
      readonly targetModules?: readonly string[]
    }
  | { readonly kind: 'LoRA'; readonly dtype: Dtype; readonly rank: number; readonly learningRate: number }
  /** The head's own weight; the embedding, which has the same numbers in the base, stays as it is. */
  | { readonly kind: 'head only'; readonly learningRate: number }
  /** The weights of all linear layers, the head included. */
  | { readonly kind: 'full'; readonly learningRate: number }

export interface LanguageTraining {
  readonly epochs: number
  /** Blocks. */
  readonly batchSize: number
  /** The tokens of a block. */
  readonly maxLength: number
}

/** Texts that are not trained on: `validation` is for the choice of rates. */
export type ScoredPart = 'validation' | 'test'
export type LanguageParts = { readonly [part in 'training' | ScoredPart]: readonly Chapter[] }

export interface LanguageRun {
  /** e to the mean loss of the tokens. */
  readonly perplexity: Readonly<Record<ScoredPart, number>>
  /** Of the test, with the same adapter in the file of the other dtype; only FourierFT. */
  readonly otherPerplexity?: number
  /** Trained numbers. */
  readonly parameters: number
  /** The size of the file with them. */
  readonly bytes: number
  /** Processor time of the training, with the preparation of the data. */
  readonly seconds: number
}

/** All linear layers of LLaMA but the head. */
const linearLayers = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
const HEAD = 'lm_head'
/** α/r of LoRA. */
const LORA_SCALE = 2
const NAME = 'moby-dick'

interface Opened {
  readonly generate: TextGenerationPipeline
  readonly adapters: ModelAdapters
}

/** What `GraphTrainer` trains. */
interface Trained {
  readonly model: OnnxModel
  readonly inputs: readonly TrainedInput[]
  readonly constants?: Readonly<Record<string, Tensor>>
}

export class LanguageComparison {
  readonly #folder: string
  readonly #training: LanguageTraining
  readonly #opened: Readonly<Record<Dtype, Opened>>

  private constructor(folder: string, training: LanguageTraining, opened: Readonly<Record<Dtype, Opened>>) {
    this.#folder = folder
    this.#training = training
    this.#opened = opened
  }

  /** @param folder a model of transformers.js with `onnx/model.onnx` and `onnx/model_q4.onnx` */
  static async open(folder: string, training: LanguageTraining): Promise<LanguageComparison> {
    env.allowRemoteModels = false
    env.logLevel = LogLevel.ERROR
    env.localModelPath = dirname(resolve(folder))
    const open = async (dtype: Dtype): Promise<Opened> => {
      const generate = await pipeline('text-generation', basename(resolve(folder)), {
        dtype,
        // The processor time of several threads depends on what else the machine does.
        session_options: { intraOpNumThreads: 1 },
      })
      return { generate, adapters: await attach(generate) }
    }
    return new LanguageComparison(folder, training, { fp32: await open('fp32'), q4: await open('q4') })
  }

  /** SHA-256 of both files. */
  async hashes(): Promise<Readonly<Record<Dtype, string>>> {
    const hash = async (dtype: Dtype) =>
      createHash('sha256')
        .update(await this.#bytes(dtype))
        .digest('hex')
    return { fp32: await hash('fp32'), q4: await hash('q4') }
  }

  async run(method: LanguageMethod, parts: LanguageParts, seed: number): Promise<LanguageRun> {
    if (method.kind === 'base' || method.kind === 'FourierFT' || method.kind === 'defaults')
      return this.#fourier(method, parts, seed)
    return this.#graph(method, parts, seed)
  }

  async release(): Promise<void> {
    for (const { generate } of Object.values(this.#opened)) await generate.dispose()
  }

  /** As users do it. */
  async #fourier(
    method: Extract<LanguageMethod, { readonly kind: 'base' | 'FourierFT' | 'defaults' }>,
    parts: LanguageParts,
    seed: number,
  ): Promise<LanguageRun> {
    const { dtype } = method
    const { adapters } = this.#opened[dtype]
    const start = process.cpuUsage()
    switch (method.kind) {
      case 'base':
        // It changes nothing.
        await adapters.addAdapter(NAME, { nFrequency: 1 })
        break
      case 'defaults':
        await adapters.addAdapter(NAME)
        await train(adapters, parts.training, { adapter: NAME, packing: true, seed })
        break
      case 'FourierFT': {
        const { n, learningRate, targetModules = linearLayers } = method
        await adapters.addAdapter(NAME, { targetModules, nFrequency: n, randomLocSeed: seed })
        const options = { ...this.#training, packing: true, learningRate, seed }
        await train(adapters, parts.training, { adapter: NAME, ...options })
      }
    }
    const seconds = secondsSince(start)
    const adapter = await adapters.getAdapter(NAME)
    const perplexity = await scored(parts, (texts) => this.#perplexity(dtype, texts))
    await adapters.deleteAdapter(NAME)
    if (method.kind === 'base') return { perplexity, parameters: 0, bytes: 0, seconds: 0 }
    return {
      perplexity,
      otherPerplexity: await this.#perplexityOf(adapter, dtype === 'q4' ? 'fp32' : 'q4', parts.test),
      parameters: sum(adapter.modules.values(), ({ coefficients }) => coefficients.length),
      bytes: adapter.toBytes().model.length,
      seconds,
    }
  }

  async #perplexityOf(adapter: Adapter, dtype: Dtype, texts: readonly Chapter[]): Promise<number> {
    const { adapters } = this.#opened[dtype]
    await adapters.loadAdapter(adapter, { name: NAME })
    const perplexity = await this.#perplexity(dtype, texts)
    await adapters.deleteAdapter(NAME)
    return perplexity
  }

  async #perplexity(dtype: Dtype, texts: readonly Chapter[]): Promise<number> {
    const { maxLength, batchSize } = this.#training
    const { adapters } = this.#opened[dtype]
    const options = { adapter: NAME, packing: true, maxLength, batchSize }
    return Math.exp((await evaluate(adapters, texts, options)).loss)
  }

  /** The methods to which FourierFT is compared. */
  async #graph(
    method: Extract<LanguageMethod, { readonly kind: 'LoRA' | 'head only' | 'full' }>,
    parts: LanguageParts,
    seed: number,
  ): Promise<LanguageRun> {
    const { tokenizer } = this.#opened.fp32.generate
    const start = process.cpuUsage()
    const { model, inputs, constants = {} } = await this.#trained(method, seed)
    const trainer = await GraphTrainer.open(model.toBytes(), { loss: crossEntropy(LOGITS), inputs })
    const blocksOf = (texts: readonly Chapter[]) =>
      new TokenBlocks(texts, { tokenizer, model, constants, ...this.#training })
    try {
      const blocks = blocksOf(parts.training)
      const { epochs } = this.#training
      const totalSteps = epochs * blocks.length
      const schedule = linearSchedule({ totalSteps, warmupSteps: Math.round(0.06 * totalSteps) })
      let step = 0
      for (let epoch = 0; epoch < epochs; epoch++)
        for (const batch of blocks.read(seed + epoch)) await trainer.step(batch, schedule(step++))
      const seconds = secondsSince(start)
      const perplexity = await scored(parts, async (texts) =>
        Math.exp((await trainer.evaluate(blocksOf(texts).read())).loss),
      )
      return {
        perplexity,
        parameters: sum(inputs, ({ values }) => values.length),
        bytes: fileSize(inputs),
        seconds,
      }
    } finally {
      await trainer.release()
    }
  }

  async #trained(
    method: Extract<LanguageMethod, { readonly kind: 'LoRA' | 'head only' | 'full' }>,
    seed: number,
  ): Promise<Trained> {
    const model = readModel(await this.#bytes(method.kind === 'LoRA' ? method.dtype : 'fp32'))
    if (method.kind === 'LoRA') {
      const { rank, learningRate } = method
      return { model, inputs: loraInputs(model, { rank, learningRate, seed }) }
    }
    const isTrained = (module: string) => method.kind === 'full' || module === HEAD
    return replaceWeights(model, { isTrained, learningRate: method.learningRate })
  }

  #bytes(dtype: Dtype): Promise<Uint8Array> {
    return readFile(join(this.#folder, 'onnx', FILES[dtype]))
  }
}

async function scored(
  { validation, test }: LanguageParts,
  perplexityOf: (texts: readonly Chapter[]) => Promise<number>,
): Promise<LanguageRun['perplexity']> {
  return { validation: await perplexityOf(validation), test: await perplexityOf(test) }
}

function loraInputs(
  model: OnnxModel,
  { rank, learningRate, seed }: { rank: number; learningRate: number; seed: number },
): TrainedInput[] {
  const normal = standardNormal(seed)
  return attachLora(model, { targetModules: linearLayers, rank, alpha: LORA_SCALE * rank }).flatMap(
    ({ down, up, inFeatures, outFeatures }) => [
      {
        name: down,
        dims: [inFeatures, rank],
        // The variance of PEFT's start, which is uniform in ±1/√d2; `up` is zero.
        values: Float32Array.from({ length: inFeatures * rank }, () => normal() / Math.sqrt(3 * inFeatures)),
        learningRate,
      },
      {
        name: up,
        dims: [rank, outFeatures],
        values: new Float32Array(rank * outFeatures),
        learningRate,
      },
    ],
  )
}

const noExternalData = (location: string): Promise<never> =>
  Promise.reject(new Error(`${location}: the weights have to be in the model's own file`))

/** Makes the weights of layers inputs of the graph, which start with the model's own. */
async function replaceWeights(
  model: OnnxModel,
  { isTrained, learningRate }: { isTrained: (module: string) => boolean; learningRate: number },
): Promise<Trained> {
  const layers = findLinearLayers(model).flatMap((layer) => {
    const { module } = layer
    return module !== undefined && isTrained(module) ? [{ module, layer }] : []
  })
  const weights = await Promise.all(layers.map(({ layer }) => readLayer(layer, noExternalData)))
  const attached = attachBranches(model, [], { replaceable: layers })
  const inputs = layers.map(({ module, layer: { inFeatures, outFeatures } }, i) => ({
    name: attached.weights.get(module)?.weight as string,
    dims: [1, inFeatures, outFeatures],
    values: transpose(weights[i].weight, outFeatures, inFeatures),
    learningRate,
  }))
  // There are no branches, so no row has an adapter.
  return { model, inputs, constants: { [attached.rows]: new Tensor('int64', [-1n], [1]) } }
}

/** @param values `[rows, columns]` */
function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)])
}

function sum<T>(items: Iterable<T>, numberOf: (item: T) => number): number {
  return Array.from(items, numberOf).reduce((total, number) => total + number, 0)
}

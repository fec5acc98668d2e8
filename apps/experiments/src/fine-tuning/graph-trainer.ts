/** Trains any inputs of an ONNX graph: the methods to which FourierFT is compared. FourierFT itself is trained by the packages, as users do. */
import {
  type AdamW,
  clipGradientNorm,
  createAdamW,
  encodeFloats,
  type Tensor as StoredTensor,
  writeSafetensors,
} from '@fourierft/core'
import { type Loss, makeTrainingGraph, readModel, type TrainingGraph } from '@fourierft/onnx'
import type { TrainingBatch } from '@fourierft/onnxruntime'
import { InferenceSession, Tensor } from 'onnxruntime-node'

/** A trained input of the graph. Its values change. */
export interface TrainedInput {
  readonly name: string
  readonly dims: readonly number[]
  readonly values: Float32Array
  readonly learningRate: number
}

export interface GraphTrainerOptions {
  readonly loss: Loss
  readonly inputs: readonly TrainedInput[]
  /** Default: 0.01, as in the trainer of `@fourierft/onnxruntime`. */
  readonly weightDecay?: number
  /** The largest norm of all gradients together. Default: 1, as in `train` of `@fourierft/transformers`. */
  readonly maxGradientNorm?: number
}

export interface GraphEvaluation {
  /** The mean of all labels that count. */
  readonly loss: number
  /** The part of the rows whose label has the largest logit. */
  readonly accuracy: number
}

/** A session and the names of its graph's outputs. */
interface Part {
  readonly session: InferenceSession
  readonly graph: TrainingGraph
}

export class GraphTrainer {
  readonly #training: Part
  readonly #evaluation: Part
  readonly #options: GraphTrainerOptions
  readonly #optimizers: readonly AdamW[]

  private constructor(training: Part, evaluation: Part, options: GraphTrainerOptions) {
    this.#training = training
    this.#evaluation = evaluation
    this.#options = options
    this.#optimizers = options.inputs.map(({ learningRate }) =>
      createAdamW({ learningRate, weightDecay: options.weightDecay ?? 0.01 }),
    )
  }

  /** @param model an ONNX file with the inputs that are trained */
  static async open(model: Uint8Array, options: GraphTrainerOptions): Promise<GraphTrainer> {
    const targets = options.inputs.map(({ name }) => name)
    const part = async (gradients: boolean): Promise<Part> => {
      const copy = readModel(model)
      const graph = makeTrainingGraph(copy, { loss: options.loss, targets, gradients })
      const session = await InferenceSession.create(copy.toBytes(), {
        intraOpNumThreads: 1,
        logSeverityLevel: 3,
      })
      return { session, graph }
    }
    return new GraphTrainer(await part(true), await part(false), options)
  }

  /** One step. @returns the mean loss before it */
  async step(batch: TrainingBatch, factor = 1): Promise<number> {
    const { graph } = this.#training
    const results = await this.#run(this.#training, batch, [...graph.gradients.values()])
    const count = numberOf(results[graph.count])
    const { inputs, maxGradientNorm = 1 } = this.#options
    const gradients = inputs.map(({ name }) => {
      const { data } = results[graph.gradients.get(name) as string]
      return (data as Float32Array).map((value) => value / count)
    })
    clipGradientNorm(gradients, maxGradientNorm)
    for (const [i, { values, learningRate }] of inputs.entries())
      this.#optimizers[i].step([values], [gradients[i]], learningRate * factor)
    return numberOf(results[graph.loss]) / count
  }

  /** Measures batches with one class for each row. */
  async evaluate(batches: Iterable<TrainingBatch>): Promise<GraphEvaluation> {
    const { graph } = this.#evaluation
    const { output } = this.#options.loss
    let [loss, count, right, rows] = [0, 0, 0, 0]
    for (const batch of batches) {
      const results = await this.#run(this.#evaluation, batch, [output])
      loss += numberOf(results[graph.loss])
      count += numberOf(results[graph.count])
      const { data, dims } = results[output]
      const classes = dims.at(-1) as number
      for (const [row, label] of Array.from(batch.labels?.data as BigInt64Array, Number).entries()) {
        const scores = (data as Float32Array).subarray(row * classes, (row + 1) * classes)
        if (scores.indexOf(Math.max(...scores)) === label) right++
        rows++
      }
    }
    return { loss: loss / count, accuracy: right / rows }
  }

  async release(): Promise<void> {
    await Promise.all([this.#training.session.release(), this.#evaluation.session.release()])
  }

  #run(
    { session, graph }: Part,
    { feeds, labels }: TrainingBatch,
    outputs: readonly string[],
  ): Promise<InferenceSession.ReturnType> {
    const all: Record<string, unknown> = { ...feeds }
    if (labels && graph.labels !== undefined) all[graph.labels] = labels
    for (const { name, dims, values } of this.#options.inputs) all[name] = new Tensor('float32', values, dims)
    const names = new Set(session.inputNames)
    const known = Object.entries(all).filter(([name]) => names.has(name))
    return session.run(Object.fromEntries(known) as InferenceSession.FeedsType, [
      graph.loss,
      graph.count,
      ...outputs,
    ])
  }
}

function numberOf(tensor: { readonly data: unknown }): number {
  return Number((tensor.data as ArrayLike<number>)[0])
}

/** The bytes of a safetensors file with the inputs under names as in PEFT. */
export function fileSize(inputs: readonly TrainedInput[]): number {
  const tensorOf = ({ values, dims }: TrainedInput): StoredTensor => ({
    dtype: 'F32',
    shape: [...dims],
    bytes: encodeFloats(values, 'F32'),
  })
  const tensors = new Map(inputs.map((input) => [`base_model.model.${input.name}`, tensorOf(input)]))
  return writeSafetensors({ tensors, metadata: { format: 'pt' } }).length
}

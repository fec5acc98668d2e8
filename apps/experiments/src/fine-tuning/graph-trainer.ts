/** Trains any inputs of an ONNX graph: the methods to which FourierFT is compared. FourierFT itself is trained by the packages, as users do. */
import { type AdamW, createAdamW } from '@fourierft/core'
import { type Loss, makeTrainingGraph, type OnnxModel, type TrainingGraph } from '@fourierft/onnx'
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
  /** Inputs that stay as they are, such as the rows of branches that are not used. */
  readonly constants?: Readonly<Record<string, Tensor>>
  /** Default: 0.01, as in the trainer of `@fourierft/onnxruntime`. */
  readonly weightDecay?: number
}

export class GraphTrainer {
  readonly #session: InferenceSession
  readonly #graph: TrainingGraph
  readonly #inputs: readonly TrainedInput[]
  readonly #constants: Readonly<Record<string, Tensor>>
  readonly #optimizers: readonly AdamW[]
  readonly #names: ReadonlySet<string>

  private constructor(session: InferenceSession, graph: TrainingGraph, options: GraphTrainerOptions) {
    const { inputs, constants = {}, weightDecay = 0.01 } = options
    this.#session = session
    this.#graph = graph
    this.#inputs = inputs
    this.#constants = constants
    this.#names = new Set(session.inputNames)
    this.#optimizers = inputs.map(({ learningRate }) => createAdamW({ learningRate, weightDecay }))
  }

  /** @param model becomes the training graph */
  static async open(model: OnnxModel, options: GraphTrainerOptions): Promise<GraphTrainer> {
    const targets = options.inputs.map(({ name }) => name)
    const graph = makeTrainingGraph(model, { loss: options.loss, targets })
    return new GraphTrainer(await InferenceSession.create(model.toBytes()), graph, options)
  }

  /** One step. @returns the mean loss before it */
  async step(batch: TrainingBatch, factor = 1): Promise<number> {
    const results = await this.#run(batch, [...this.#graph.gradients.values()])
    const count = numberOf(results[this.#graph.count])
    for (const [i, { name, values, learningRate }] of this.#inputs.entries()) {
      const gradient = results[this.#graph.gradients.get(name) as string].data as Float32Array
      this.#optimizers[i].step([values], [gradient.map((value) => value / count)], learningRate * factor)
    }
    return numberOf(results[this.#graph.loss]) / count
  }

  /** The mean loss of all labels in the batches. */
  async evaluate(batches: Iterable<TrainingBatch>): Promise<number> {
    let [loss, count] = [0, 0]
    for (const batch of batches) {
      const results = await this.#run(batch, [])
      loss += numberOf(results[this.#graph.loss])
      count += numberOf(results[this.#graph.count])
    }
    return loss / count
  }

  release(): Promise<void> {
    return this.#session.release()
  }

  #run({ feeds, labels }: TrainingBatch, gradients: readonly string[]): Promise<InferenceSession.ReturnType> {
    const all: Record<string, unknown> = { ...this.#constants, ...feeds }
    if (labels && this.#graph.labels !== undefined) all[this.#graph.labels] = labels
    for (const { name, dims, values } of this.#inputs) all[name] = new Tensor('float32', values, dims)
    const known = Object.entries(all).filter(([name]) => this.#names.has(name))
    return this.#session.run(Object.fromEntries(known) as InferenceSession.FeedsType, [
      this.#graph.loss,
      this.#graph.count,
      ...gradients,
    ])
  }
}

function numberOf(tensor: { readonly data: unknown }): number {
  return Number((tensor.data as ArrayLike<number>)[0])
}

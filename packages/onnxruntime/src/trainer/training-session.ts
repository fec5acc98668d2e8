/** The session that computes losses and gradients: the training graph of one adapter. */
import { FourierFTError, invalidState } from '@fourierft/core'
import {
  type AttachedInputs,
  attachBranches,
  byteLengthOf,
  DataType,
  LABELS_CHECK,
  type Loss,
  type MemoryPolicy,
  makeTrainingGraph,
  type OnnxModel,
  type OnnxTensor,
  PAIRS_CHECK,
  type ReadExternal,
  type TrainingGraph,
  valuesOfFreeWidth,
} from '@fourierft/onnx'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import { feedsError } from '../feeds-error.js'
import { layersByKey } from '../matched-layers.js'
import type { Ort } from '../ort.js'
import { parameterInputs } from '../parameter-inputs.js'
import type { SessionAdapter } from '../session-adapter.js'
import { SessionRuns } from '../session-runs.js'
import type { TrainingBatch } from './trainer.js'

/** What a training graph computes. */
export interface TrainingSettings {
  readonly loss: Loss
  /** Default: true. Without gradients, the graph gives the model's output that the loss reads: for evaluation. */
  readonly gradients?: boolean
  /** Default: `fast`. */
  readonly memory?: MemoryPolicy
}

/** A model that has become the training graph of one adapter. */
export interface AttachedTraining extends TrainingSettings {
  /** The inputs of the adapter. */
  readonly inputs: AttachedInputs
  readonly graph: TrainingGraph
  /** The inputs of the model before it became a training graph. */
  readonly modelInputs: ReadonlySet<string>
  /** Identifies the model's weights. */
  readonly modelDigest: string
}

export class TrainingSession {
  readonly Tensor: Ort['Tensor']
  readonly inputs: AttachedInputs
  readonly graph: TrainingGraph
  /** Identifies the model's weights. */
  readonly modelDigest: string
  readonly #loss: Loss
  readonly #session: InferenceSession
  readonly #runs: SessionRuns
  readonly #inputNames: ReadonlySet<string>
  readonly #modelInputs: ReadonlySet<string>
  readonly #adapterInputs: ReadonlySet<string>
  readonly #env: Ort['env']

  constructor(session: InferenceSession, ort: Ort, attached: AttachedTraining) {
    const { inputs, graph, loss, modelInputs, modelDigest } = attached
    this.modelDigest = modelDigest
    this.Tensor = ort.Tensor
    this.inputs = inputs
    this.graph = graph
    this.#loss = loss
    this.#session = session
    this.#runs = new SessionRuns(session, ort)
    this.#env = ort.env
    this.#inputNames = new Set(session.inputNames)
    this.#modelInputs = modelInputs
    this.#adapterInputs = new Set([inputs.rows, ...parameterInputs(inputs), graph.lossScale ?? ''])
  }

  /** The output of the model that the loss reads. */
  get output(): string {
    return this.#loss.output
  }

  get isReleased(): boolean {
    return this.#runs.isReleased
  }

  /**
   * Computes the loss of a batch, and its gradients if `fetches` contains them.
   *
   * Inputs of the model that only other outputs need are not fed.
   *
   * @throws {FourierFTError} `INVALID_OPTION` and `SHAPE_MISMATCH` for feeds and labels that ONNX Runtime rejects; `INVALID_STATE` after `release`
   */
  async run(
    { feeds, labels }: TrainingBatch,
    adapterFeeds: Readonly<Record<string, Tensor>>,
    fetches: readonly string[],
  ): Promise<InferenceSession.ReturnType> {
    this.#checkLabels(labels)
    const all: Record<string, Tensor> = {
      ...(labels && { [this.graph.labels as string]: this.#reusable(labels) }),
    }
    for (const [name, tensor] of Object.entries(feeds ?? {}))
      if (this.#inputNames.has(name) || !this.#modelInputs.has(name)) all[name] = this.#reusable(tensor)
    for (const [name, tensor] of Object.entries(adapterFeeds))
      if (this.#inputNames.has(name)) all[name] = tensor
    try {
      return await this.#runs.run(async () => {
        if (this.isReleased) throw invalidState('the trainer was released', 'create another one')
        return this.#session.run(all, [...fetches])
      })
    } catch (error) {
      throw FourierFTError.isInstance(error) ? error : this.#explain({ feeds, labels }, error)
    }
  }

  /** Copies a tensor of the caller if the proxy of onnxruntime-web would take its memory: a batch is used in each epoch. */
  #reusable(tensor: unknown): Tensor {
    const { type, data, dims, location } = (tensor ?? {}) as Partial<Tensor>
    if (this.#env.wasm?.proxy !== true || location !== 'cpu' || !data) return tensor as Tensor
    const { Tensor } = this
    return new Tensor(type as 'float32', data.slice() as Float32Array, dims)
  }

  /** Estimates the bytes of the values of a run with these feeds. */
  memoryFor(feeds: InferenceSession.FeedsType): number {
    return this.graph.stepMemory((input) => (feeds[input] as Tensor | undefined)?.dims)
  }

  /** Frees the session after its current runs. */
  release(): Promise<void> {
    return this.#runs.release()
  }

  /** Rejects labels of another type, which ONNX Runtime would misread or reject without their name, and labels out of range. */
  #checkLabels(labels: Tensor | undefined): void {
    const { graph } = this
    if (graph.labels === undefined) {
      if (labels !== undefined) throw labelsError('the loss has no labels')
      return
    }
    const type = this.#loss.labels?.dataType === DataType.int64 ? 'int64' : 'float32'
    if (labels?.type !== type)
      throw labelsError(
        labels === undefined
          ? 'the loss needs the labels of each batch; received none'
          : `expected a tensor, ${type}; received ${(labels as Tensor | null)?.type ?? typeof labels}`,
      )
    if (labels.data.length === 0) throw labelsError('the batch has no labels that count: it is empty')
    const problem = this.#loss.problemOf?.(labels.data as ArrayLike<number | bigint>, graph.outputSize)
    if (problem !== undefined) throw labelsError(problem)
  }

  /** Returns an error that names what ONNX Runtime has rejected, or the error of ONNX Runtime. */
  #explain({ feeds, labels }: TrainingBatch, cause: unknown): unknown {
    const text = String(cause)
    const received = labels && `${labels.type} [${labels.dims.join(', ')}]`
    if (text.includes(PAIRS_CHECK))
      return new FourierFTError(
        'SHAPE_MISMATCH',
        'feeds: the loss compares pairs, the two halves of the batch; received an odd number of rows',
        { option: 'feeds', cause },
      )
    if (text.includes(LABELS_CHECK) || (this.graph.labels !== undefined && text.includes(this.graph.labels)))
      return new FourierFTError(
        'SHAPE_MISMATCH',
        `labels: they do not fit the output ${JSON.stringify(this.#loss.output)} for these feeds; received ${received}`,
        { option: 'labels', received: labels?.dims, cause },
      )
    const isModels = (name: string) => !this.#adapterInputs.has(name) && name !== this.graph.labels
    const { inputNames, inputMetadata = [] } = this.#session
    const signature = {
      inputNames: inputNames.filter(isModels),
      inputMetadata: inputMetadata.filter(({ name }) => isModels(name)),
    }
    // Caches of decoders have a length of 0.
    const isEmpty = Object.values(feeds ?? {}).some((tensor) => (tensor as Tensor | null)?.dims?.[0] === 0)
    const empty = isEmpty
      ? new FourierFTError('INVALID_OPTION', 'feeds: the batch is empty', { option: 'feeds', cause })
      : undefined
    return feedsError(feeds, signature, cause) ?? empty ?? cause
  }
}

function labelsError(problem: string): FourierFTError {
  return new FourierFTError('INVALID_OPTION', `labels: ${problem}`, { option: 'labels' })
}

/** Turns a model into the training graph of one adapter. */
export function attachForTraining(
  model: OnnxModel,
  adapter: SessionAdapter,
  settings: TrainingSettings,
): Omit<AttachedTraining, 'modelDigest'> {
  const { loss } = settings
  const { graph: original } = model
  // In old models (IR version 3) initializers are inputs, too.
  const isInitializer = (name: string) => original.initializers.has(name)
  const modelInputs = new Set(original.inputs.map(({ name }) => name).filter((name) => !isInitializer(name)))
  const layerAt = layersByKey(model)
  const branches = Array.from(adapter.layers, ([key, { name, entries }]) => ({
    module: name,
    entries,
    layer: layerAt(key),
  }))
  const replaceable = Array.from(adapter.replacedModules, ([key, { module, isResized }]) => ({
    module,
    layer: layerAt(key),
    hasFreeWidth: isResized,
  }))
  // The file does not show the size of an output that an adapter resizes.
  const [resizedSize] = Array.from(adapter.replacedModules, ([key, { isResized, weight, inFeatures }]) =>
    isResized && valuesOfFreeWidth(layerAt(key))?.includes(loss.output) ? [weight.length / inFeatures] : [],
  ).flat()
  const inputs = attachBranches(model, branches, { replaceable })
  const graph = makeTrainingGraph(model, { ...settings, targets: parameterInputs(inputs) })
  const sized = { ...graph, outputSize: resizedSize ?? graph.outputSize }
  return { ...settings, inputs, graph: sized, modelInputs }
}

/** The number of bytes of each tensor that the digest reads, from its middle. */
const SAMPLE = 256

/**
 * Identifies the weights of a model: FNV-1a of their names, shapes and types, and of a sample of their bytes. It does not depend on where the bytes are
 * stored.
 */
export async function digestOf({ graph }: OnnxModel, readExternal: ReadExternal): Promise<string> {
  let hash = 0x811c9dc5
  const add = (byte: number) => {
    hash = Math.imul(hash ^ byte, 0x01000193)
  }
  for (const tensor of graph.initializers.values()) {
    const { name, dims, dataType } = tensor
    const header = JSON.stringify([name, dims, dataType])
    for (let i = 0; i < header.length; i++) add(header.charCodeAt(i))
    for (const byte of await sampleOf(tensor, readExternal)) add(byte)
  }
  return (hash >>> 0).toString(16)
}

async function sampleOf(tensor: OnnxTensor, readExternal: ReadExternal): Promise<Uint8Array> {
  const { external } = tensor
  const stored = external ? undefined : tensor.data()
  const length = stored?.length ?? external?.length ?? byteLengthOf(tensor)
  const start = Math.floor(Math.max(0, length - SAMPLE) / 2)
  const end = Math.min(length, start + SAMPLE)
  if (external) return readExternal(external.location, external.offset + start, end - start)
  return stored?.subarray(start, end) ?? new Uint8Array()
}

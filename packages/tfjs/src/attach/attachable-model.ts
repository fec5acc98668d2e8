/**
 * What `Adapters` needs of a model, of whatever class it is: its modules, and a way to lay something over each. `layers-host` is that of
 * a `LayersModel`, `graph-host` that of a `GraphModel`.
 */
import type { Tensor } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { LayerKind } from '../kinds/layer-kind.js'

/** What a model asks of its adapters while it is attached. */
export interface AttachedState {
  /**
   * Runs a training of the active adapters.
   *
   * @param work is handed their weights, and a function that runs one step (or one batch of a validation) with them and nothing else active
   * @throws {FourierFTError} `INVALID_STATE` if there is nothing to train now
   */
  train<T>(work: (weights: readonly LayerVariable[], step: <R>(run: () => R) => R) => Promise<T>): Promise<T>
  /**
   * For a call that takes several turns of the event loop and begins now.
   *
   * @returns runs one part of it with what is chosen now
   * @throws {FourierFTError} from that, `INVALID_STATE` where an adapter of the call was deleted meanwhile, or adapters were merged or unmerged
   */
  call(): <R>(part: () => R) => R
  /** Whether the weights hold adapters now. */
  isMerged(): boolean
  /** How many times another choice of adapters has come into effect. */
  changes(): number
}

export interface AttachableModel<Model> {
  readonly model: Model
  readonly modules: readonly AttachableModule[]
  /**
   * Puts the base weights out of reach of training, the first change to the model; what cannot be done is refused before it.
   *
   * @returns leaves the model as it was found, but for what has been merged
   */
  prepare(state: AttachedState): () => void
}

/** Something in a model that has a name: a layer, or the nodes of a graph that multiply by one weight. */
export interface AttachableModule {
  readonly name: string
  /** What may be attached to once at a time. */
  readonly owner: object
  /** Undefined for what cannot have adapters. */
  readonly kind: LayerKind | undefined
  /** What it is, for messages. */
  readonly typeName: string
  readonly hasWeights: boolean
  /** False for a layer that gets its weights when it first runs. */
  readonly isBuilt: boolean
  /** Lets `apply` compute the output wherever `isIdle` does not hold; what comes back undoes that. */
  intercept(apply: (x: Tensor) => Tensor, isIdle: () => boolean): () => void
}

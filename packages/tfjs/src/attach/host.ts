/**
 * What `Adapters` needs of a model, of whatever class it is: its modules, and a way to lay something over each. `layers-host` is that of
 * a `LayersModel`, `graph-host` that of a `GraphModel`.
 */
import type { Tensor } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { LayerKind } from './layer-kind.js'

export interface Host<Model> {
  readonly model: Model
  readonly modules: readonly HostModule[]
  /**
   * Puts the base weights out of reach of training, the first change to the model; what cannot be done is refused before it.
   *
   * @param weightsToTrain those of the active adapters; throws if there is nothing to train now
   * @returns leaves the model as it was found, but for what has been merged
   */
  prepare(weightsToTrain: () => readonly LayerVariable[]): () => void
}

/** Something in a model that has a name: a layer, or the nodes of a graph that multiply by one weight. */
export interface HostModule {
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

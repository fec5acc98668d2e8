/**
 * The interface between `Adapters` and a model: its modules, and a way to intercept each of them. There are two implementations: one for `LayersModel`
 * (`layers-model/`) and one for `GraphModel` (`../graph-model/`).
 */
import type { Tensor } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { LayerKind } from '../kinds/layer-kind.js'

/** The state of the adapters, for the attached model. */
export interface AttachedState {
  /**
   * Trains the active adapters.
   *
   * @param work receives their weights, and a function that runs one step (or one batch of a validation) with only these adapters active
   * @throws {FourierFTError} `INVALID_STATE` if no adapter can be trained now
   */
  train<T>(work: (weights: readonly LayerVariable[], step: <R>(run: () => R) => R) => Promise<T>): Promise<T>
  /**
   * Begins a call that takes several turns of the event loop.
   *
   * @returns a function that runs one part of the call with the adapters that are active now. It throws `INVALID_STATE` if one of them has
   *   been deleted, or if adapters have been merged or unmerged
   */
  call(): <R>(part: () => R) => R
  /** Whether adapters are merged into the weights. */
  isMerged(): boolean
  /** How many times the active adapters have changed. */
  changes(): number
}

export interface AttachableModel<Model> {
  readonly model: Model
  readonly modules: readonly AttachableModule[]
  /**
   * Excludes the base weights from training. This is the first change to the model: all checks come before.
   *
   * @returns a function that restores the model, except for merged weights
   */
  prepare(state: AttachedState): () => void
}

/** A named part of a model: a layer, or the nodes of a graph that multiply by one weight. */
export interface AttachableModule {
  readonly name: string
  /** The object that can be attached only once at a time. */
  readonly owner: object
  /** Undefined if the module cannot have adapters. */
  readonly kind: LayerKind | undefined
  /** The type of the module, for messages. */
  readonly typeName: string
  readonly hasWeights: boolean
  /** False for a layer that gets its weights when it first runs. */
  readonly isBuilt: boolean
  /** Makes `apply` compute the output unless `isIdle()`. Returns a function that undoes this. */
  intercept(apply: (x: Tensor) => Tensor, isIdle: () => boolean): () => void
}

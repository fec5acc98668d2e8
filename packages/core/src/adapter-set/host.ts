/**
 * The interface that a runtime implements for `AdapterSet`. The set decides which adapters a call applies. A host finds layers, makes
 * sessions or kernels, and applies the choice that it receives. A host never reads the state of the set.
 */
import type { Adapter } from '../adapter/adapter.js'
import type { Applied, Choice } from './choice.js'

/** An adapter whose layers the host has found in its model. */
export interface MatchedAdapter {
  /** The layers that it replaces (`modules_to_save`): the module's name by the layer's key, which is the same for all adapters of a model. */
  readonly replaces: ReadonlyMap<string, string>
}

/** The adapters that a call applies. */
export interface CallState<P, M> {
  readonly choice: Choice<P>
  /** The result of `merge` while adapters are merged; then `choice` contains the merged adapters. */
  readonly merged: M | undefined
}

/**
 * @typeParam P an adapter, matched to the model's layers
 * @typeParam M the result of a merge: a session, kernels
 */
export interface AdapterHost<P extends MatchedAdapter, M> {
  /**
   * Finds the layers of an adapter. Does not affect calls.
   *
   * @throws {FourierFTError} `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`
   */
  match(name: string, adapter: Adapter): P | Promise<P>
  /** Whether the model can apply the adapter without a rebuild. */
  serves(adapter: P): boolean
  /**
   * Rebuilds the model so that it can apply all of these adapters. Calls that have started are not affected. A call must not wait for a
   * rebuild that waits for calls. A failure changes nothing. Rebuilds and merges never overlap.
   */
  rebuild(adapters: readonly P[]): Promise<void>
  /**
   * Prepares weights that contain ΔW and the replaced layers of these adapters. They take effect with the next `changed`; `discard` frees them.
   *
   * @throws {FourierFTError} `NOT_FINITE`, `UNSUPPORTED`; a failed merge leaves nothing to free
   */
  merge(added: readonly Applied<P>[]): Promise<M>
  /**
   * Checks the weights right before a merge takes effect, for models whose weights the user can write.
   *
   * @throws {FourierFTError} `INVALID_STATE` if they were written since `merge` read them
   */
  checkMerged?(merged: M): void
  /** Frees the result of `merge` as soon as no call uses it. */
  discard(merged: M): void
  /** Receives each new state for the next calls, for models that store this state. */
  changed?(state: CallState<P, M>): void
  /** Rejects adapters of rows (null: the base model) that this model cannot apply in one batch. @throws {FourierFTError} `UNSUPPORTED` */
  checkRows?(rows: readonly (Applied<P> | null)[]): void
  /** Frees the resources of a deleted adapter. */
  forget?(adapter: P): void
  /** Returns the adapter with its current coefficients. */
  adapterOf(adapter: P): Adapter | Promise<Adapter>
  /** @throws {FourierFTError} `INVALID_STATE` if the model was closed without the set */
  checkLive?(): void
}

/** The reason why a set has ended, and the advice. Every later method throws `INVALID_STATE` with both. */
export interface Ending {
  readonly problem: string
  readonly advice: string
}

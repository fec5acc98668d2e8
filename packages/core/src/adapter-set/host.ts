/**
 * The port that a runtime fills in. `AdapterSet` decides which adapters a call applies and when; a host finds layers, makes sessions or
 * kernels, and applies the choice that it is handed. A host never asks the set for its state.
 */
import type { Adapter } from '../adapter/adapter.js'
import type { Applied, Choice } from './choice.js'

/** An adapter whose layers the host has found in its model. */
export interface MatchedAdapter {
  /** The layers that it replaces as a whole (`modules_to_save`): a key that is the same for the same layer, and the module's name. */
  readonly replaces: ReadonlyMap<string, string>
}

/** What a call that begins now applies. */
export interface CallState<P, M> {
  readonly choice: Choice<P>
  /** What `merge` made, while adapters are in the weights; then `choice` names the adapters that are. */
  readonly merged: M | undefined
}

/** @typeParam M what a merge makes: a session, kernels */
export interface AdapterHost<P extends MatchedAdapter, M> {
  /**
   * Finds the layers of an adapter. Nothing that calls see changes.
   *
   * @throws {FourierFTError} `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`
   */
  place(name: string, adapter: Adapter): P | Promise<P>
  /** Whether the model as it is can apply the adapter. */
  serves(adapter: P): boolean
  /**
   * Makes the model able to apply all of these. Calls that have begun go on as they are, and no call waits for a rebuild that waits for
   * calls. A failure leaves everything as it was. Rebuilds and merges never overlap.
   */
  rebuild(adapters: readonly P[]): Promise<void>
  /**
   * Prepares weights with ΔW and the whole layers of these adapters in them. They take effect with the next `changed`; `discard` frees them.
   *
   * @throws {FourierFTError} `NOT_FINITE`, `UNSUPPORTED`; nothing is left behind then
   */
  merge(added: readonly Applied<P>[]): Promise<M>
  /**
   * Called right before merged weights take effect, for models whose own weights can be written.
   *
   * @throws {FourierFTError} `INVALID_STATE` where they were written since `merge` read them
   */
  checkMerged?(merged: M): void
  /** Frees what `merge` made, as soon as no call uses it. */
  discard(merged: M): void
  /** Called when what the next call applies has changed, for models that keep it in themselves. */
  changed?(state: CallState<P, M>): void
  /** Refuses adapters that cannot have a row of their own in this model. @throws {FourierFTError} `UNSUPPORTED` */
  checkRows?(adapters: readonly P[]): void
  /** Frees what a deleted adapter held. */
  forget?(adapter: P): void
  /** The adapter with its numbers as they are now. */
  adapterOf(adapter: P): Adapter | Promise<Adapter>
  /** @throws {FourierFTError} `INVALID_STATE` where the model was closed without the set's knowledge */
  checkLive?(): void
}

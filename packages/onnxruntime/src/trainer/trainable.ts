/** `Trainable`: a model with adapters that `createTrainer` accepts. */
import type { SessionAdapter } from '../session-adapter.js'
import type { TrainingSession, TrainingSettings } from './training-session.js'

export interface Trainable {
  /** @internal */
  readonly trainable: TrainableSession
}

/** What a trainer needs of a model with adapters. */
export interface TrainableSession {
  /**
   * Returns an adapter as it is now: the same object until it is replaced.
   *
   * @param name default: the active adapter
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`; `INVALID_STATE`
   */
  adapterToTrain(name: string | undefined): { readonly name: string; readonly adapter: SessionAdapter }
  /** Opens the training graph of an adapter. The model releases it at its end. */
  openTraining(adapter: SessionAdapter, settings: TrainingSettings): Promise<TrainingSession>
  /** Runs one step, during which the adapter cannot be deleted or merged. */
  trainAdapter<T>(name: string, work: () => Promise<T>): Promise<T>
  /** Replaces an adapter by itself with other numbers. Calls that start later use these. */
  replaceAdapter(name: string, adapter: SessionAdapter): void
}

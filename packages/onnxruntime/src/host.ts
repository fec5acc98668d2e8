/**
 * The host of one session, for packages of this project that combine several sessions into one model, such as `@fourierft/transformers`. Any
 * release may change these exports.
 */

export { AdaptedGraph, type RunArguments } from './adapted-graph.js'
export { NO_SLOTS } from './adapter-slots.js'
export { renamedKey } from './matched-layers.js'
export type { ModelSessions } from './model-sessions.js'
export type { OpenModel } from './model-source.js'
export { type NamedLayer, newAdapter } from './new-adapter.js'
export { type OpenOptions, openSessions } from './open-sessions.js'
export type { ApplicableAdapter, ReplacedModule, SessionAdapter } from './session-adapter.js'
export { SessionHost, type SessionHostInit, type Signature } from './session-host.js'
export { SharedGraph } from './shared-graph.js'
export type { Trainable, TrainableSession } from './trainer/trainable.js'
export type { TrainingSession, TrainingSettings } from './trainer/training-session.js'

/**
 * For the packages of this project whose models have several sessions, such as `@fourierft/transformers`: the host of one session, which they
 * combine. Any release may change it.
 */

export { AdaptedGraph, type RunArguments } from './adapted-graph.js'
export { NO_SLOTS } from './adapter-slots.js'
export type { ModelSessions } from './model-sessions.js'
export type { OpenModel } from './model-source.js'
export { type NamedLayer, newAdapter } from './new-adapter.js'
export { type OpenOptions, openSessions } from './open-sessions.js'
export type { SessionAdapter } from './session-adapter.js'
export { SessionHost, type SessionHostInit, type Signature } from './session-host.js'
export { SharedGraph } from './shared-graph.js'

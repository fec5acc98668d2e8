/**
 * For packages that have models of several sessions, such as `@fourierft/transformers`: the host of one session, which they combine. It may
 * change with any release.
 */
export { AdaptedGraph, type RunArguments } from './adapted-graph.js'
export { EMPTY_PLAN, type MatchedAdapter } from './layer-places.js'
export type { ModelSessions } from './model-sessions.js'
export type { OpenModel } from './model-source.js'
export { type NamedLayer, newAdapter } from './new-adapter.js'
export { type OpenOptions, openSessions } from './open-sessions.js'
export { SessionHost, type SessionHostParts, type Signature } from './session-host.js'
export { SharedGraph } from './shared-graph.js'

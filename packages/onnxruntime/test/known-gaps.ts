/** The levels of the conformance suite that the backends for ONNX Runtime do not have, with the reasons. */
export const KNOWN_GAPS = {
  2: 'sessions do not write adapters',
} as const

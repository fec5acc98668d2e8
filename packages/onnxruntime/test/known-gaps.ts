/** The levels of the conformance suite that the backends for ONNX Runtime do not have, with the reasons. */
export const KNOWN_GAPS = {
  2: 'sessions do not write adapters',
  5: 'gradients come from a model that only the suite makes',
  7: 'gradients come from a model that only the suite makes',
} as const

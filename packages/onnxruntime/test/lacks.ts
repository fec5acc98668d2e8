/** The levels of the conformance suite that ONNX Runtime lacks, for all its backends. */
export const LACKS = {
  2: 'a session reads adapters and writes none',
  5: 'only the suite makes the model that computes gradients',
  7: 'only the suite makes the model that computes gradients',
} as const

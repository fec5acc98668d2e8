/** The levels of the conformance suite that transformers.js lacks. */
export const LACKS = {
  2: 'a session reads adapters and writes none',
  5: 'transformers.js serves and does not train',
  7: 'transformers.js serves and does not train',
} as const

/** The levels of the conformance suite that transformers.js does not have, with the reasons. */
export const KNOWN_GAPS = {
  2: 'a session reads adapters and writes none',
  5: 'transformers.js runs models and does not train them',
  7: 'transformers.js runs models and does not train them',
} as const

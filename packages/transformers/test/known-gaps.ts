/** The level of the conformance suite that transformers.js does not have, with the reason. */
export const KNOWN_GAPS = { 2: 'a session reads adapters and writes none' } as const

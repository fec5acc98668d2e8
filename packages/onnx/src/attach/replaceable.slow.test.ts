/** The tests of `replaceable.test.ts` with all cases. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./replaceable.test.js')

/** The tests of `uniform-vectors.test.ts` with all cases. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./uniform-vectors.test.js')

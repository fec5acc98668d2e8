/** The tests of `attach-attention.test.ts` with all cases. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./attach-attention.test.js')

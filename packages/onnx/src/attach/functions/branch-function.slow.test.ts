/** The tests of `branch-function.test.ts` with all cases. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./branch-function.test.js')

/** The tests of `gradient-function.test.ts` with all cases. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./gradient-function.test.js')

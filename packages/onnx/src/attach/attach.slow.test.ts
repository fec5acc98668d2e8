/** The tests of `attach.test.ts` with all models. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./attach.test.js')

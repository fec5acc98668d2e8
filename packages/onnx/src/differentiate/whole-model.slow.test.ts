/** The tests of `whole-model.test.ts` with all models. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./whole-model.test.js')

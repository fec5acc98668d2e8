/** The tests of `read-model-file.test.ts` with all models. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./read-model-file.test.js')

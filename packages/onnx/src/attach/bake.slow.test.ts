/** The tests of `bake.test.ts` with all models. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./bake.test.js')

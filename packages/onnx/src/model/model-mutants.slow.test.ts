/** The test of `model-mutants.test.ts` with 100,000 mutants. */
process.env.FOURIERFT_MUTANTS ??= '100000'
await import('./model-mutants.test.js')

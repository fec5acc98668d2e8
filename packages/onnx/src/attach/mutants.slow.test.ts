/** The test of `mutants.test.ts` with 10,000 mutants; the workflow `mutants` runs 100,000. */
process.env.FOURIERFT_MUTANTS ??= '10000'
await import('./mutants.test.js')

/** The tests of `detach.test.ts` with all models. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./detach.test.js')

/** The tests of `packed-layers.test.ts` with all cases. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./packed-layers.test.js')

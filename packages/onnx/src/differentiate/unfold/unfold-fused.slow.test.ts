/** The tests of `unfold-fused.test.ts` with all forms. */
process.env.FOURIERFT_ALL_CASES = 'true'
await import('./unfold-fused.test.js')

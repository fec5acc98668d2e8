import { uniformEntries } from '@fourierft/core'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { expectStrategy, LAYER_SIZES } from '../__fixtures__/expect-strategy.js'
import { useBackend } from '../__fixtures__/use-backend.js'
import '../fourier-linear.js'
import { TableCache } from '../table-cache.js'
import { portableSpectral } from './spectral.js'

/** The form of `spectral` for GPUs, called directly: on cpu and wasm `fourierLinear` computes in JavaScript's memory. */
describe.each(['cpu', 'wasm'] as const)('portableSpectral on %s', (backend) => {
  beforeAll(() => useBackend(backend))
  const tables = new TableCache()
  afterAll(() => tables.dispose())

  it.each(LAYER_SIZES)(
    'computes the reference forward and backward, with one adapter and with one for each row: [%i, %i], n = %i, T = %i',
    (d1, d2, n, tokens) => {
      expectStrategy(portableSpectral, uniformEntries({ shape: [d1, d2], n, seed: 3 }), tokens, tables)
    },
  )
})

/** Makes adapters with random coefficients at the entries that PEFT samples. */
import { type Adapter, createAdapter, createConfig, type Shapes } from '@fourierft/core'

export function randomAdapter(shapes: Shapes, n: number, seed: number): Adapter {
  const config = createConfig({ targetModules: Object.keys(shapes), nFrequency: n, initWeights: false })
  return createAdapter(config, shapes, { initialSeed: seed })
}

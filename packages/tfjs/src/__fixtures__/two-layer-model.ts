/** A small model for tests: `linear` [6 → 5] without a bias, `head` [5 → 4]. */
import * as tfl from '@tensorflow/tfjs-layers'

export function makeModel(): tfl.Sequential {
  const random = (seed: number) => tfl.initializers.randomUniform({ minval: -1, maxval: 1, seed })
  return tfl.sequential({
    layers: [
      tfl.layers.dense({
        name: 'linear',
        units: 5,
        inputShape: [6],
        useBias: false,
        kernelInitializer: random(1),
      }),
      tfl.layers.dense({
        name: 'head',
        units: 4,
        kernelInitializer: random(2),
        biasInitializer: random(3),
      }),
    ],
  })
}

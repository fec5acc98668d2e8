/**
 * Trains the base model on upright digits and writes the committed checkpoint to `base/`: `node dist/train-base.js`, a few minutes on one
 * core. The demo does not run this program.
 */
import { uniformEntries } from '@fourierft/core'
import { baseConfig, baseTraining, largestShift } from './base-settings.js'
import { baseFolder, writeCheckpoint } from './checkpoint-files.js'
import { type DigitSet, imagePixels, imageSize } from './digits.js'
import { fineTune, predict } from './fine-tune.js'
import { loadDigits } from './load-digits.js'
import { weightsOf } from './model-weights.js'
import { score } from './score.js'
import { allVariables, visionTransformer } from './vision-transformer.js'
import { useWasm } from './wasm-products.js'

await useWasm()
const digits = await loadDigits()
const model = visionTransformer(baseConfig)
const report = (when: string, set: 'validation' | 'test') => {
  const { loss, accuracy } = score(predict(model, digits[set]), digits[set].labels)
  console.log(`${when}  ${set} loss ${loss.toFixed(3)}, accuracy ${(100 * accuracy).toFixed(2)} %`)
}

await fineTune(model, allVariables(model), {
  ...baseTraining,
  digits: digits.base,
  augment: shiftDigits,
  onStep: (step, steps) => {
    if (step % 500 === 0) report(`step ${step} of ${steps}`, 'validation')
  },
})
report('trained', 'test')
console.log(await writeCheckpoint(baseFolder, { config: baseConfig, weights: weightsOf(model) }))

/** Shifts each digit of the batch by its own offset. The batch goes through all offsets in an order that `step` determines. */
function shiftDigits(batch: DigitSet, step: number): DigitSet {
  const side = 2 * largestShift + 1
  const offsets = uniformEntries({ shape: [side, side], n: side * side, seed: step })
  const pixels = new Float32Array(batch.pixels.length)
  for (let digit = 0; digit < batch.count; digit++) {
    const down = (offsets.rows[digit % offsets.n] ?? 0) - largestShift
    const right = (offsets.columns[digit % offsets.n] ?? 0) - largestShift
    for (let y = Math.max(0, down); y < imageSize + Math.min(0, down); y++) {
      for (let x = Math.max(0, right); x < imageSize + Math.min(0, right); x++) {
        const source = digit * imagePixels + (y - down) * imageSize + (x - right)
        pixels[digit * imagePixels + y * imageSize + x] = batch.pixels[source] ?? 0
      }
    }
  }
  return { ...batch, pixels }
}

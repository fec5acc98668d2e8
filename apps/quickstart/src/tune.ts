/**
 * Prints the results from which the learning rates were chosen: `node dist/tune.js`, several minutes. It trains every method once with every rate
 * of its grid, with a seed that the demo does not use, and scores the validation digits, not the test digits. README.md shows its output.
 */
import { baseFolder, readCheckpoint } from './checkpoint-files.js'
import { fineTune, predict } from './fine-tune.js'
import { loadDigits } from './load-digits.js'
import { fourierft, fullFineTuning, loraMethods } from './methods.js'
import { loadWeights } from './model-weights.js'
import { rotateDigits } from './rotated-digits.js'
import { score } from './score.js'
import { degrees, training } from './settings.js'
import { visionTransformer } from './vision-transformer.js'
import { useWasm } from './wasm-products.js'

const seed = 0
const grids = [
  { method: fourierft, rates: [1.25e-2, 2.5e-2, 5e-2, 1e-1] },
  ...loraMethods.map((method) => ({ method, rates: [1e-2, 2e-2, 4e-2, 8e-2] })),
  { method: fullFineTuning, rates: [5e-4, 1e-3, 2e-3, 4e-3] },
]

await useWasm()
const digits = await loadDigits()
const checkpoint = await readCheckpoint(baseFolder)
const model = visionTransformer(checkpoint.config)
loadWeights(model, checkpoint)
const adaptation = rotateDigits(digits.adaptation, degrees)
const validation = rotateDigits(digits.validation, degrees)

console.log('| method | rate | validation loss | validation accuracy |\n| --- | --- | --- | --- |')
for (const { method, rates } of grids) {
  for (const learningRate of rates) {
    const { variables, detach } = method.attach(model, seed)
    await fineTune(model, variables, { ...training, digits: adaptation, learningRate, seed })
    const { loss, accuracy } = score(predict(model, validation), validation.labels)
    console.log(
      `| ${method.name} | ${learningRate} | ${loss.toFixed(3)} | ${(100 * accuracy).toFixed(1)} % |`,
    )
    detach()
  }
}

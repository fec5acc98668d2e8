/** Every runtime reads the same files and gives the same results. An unavailable runtime is reported with its reason; errors are thrown. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdapter, createConfig, savePretrained } from '@fourierft/core'
import { kernelProblem } from '@fourierft/native'
import { attach } from '@fourierft/transformers'
import { pipeline, RawImage } from '@huggingface/transformers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { baseFolder, readCheckpoint } from './checkpoint-files.js'
import { classes, firstDigits, imagePixels, imageSize } from './digits.js'
import { largestDifference } from './largest-difference.js'
import { loadDigits } from './load-digits.js'
import { writeOnnxFolder } from './onnx-files.js'
import { roundingLimit } from './rounding-limit.js'
import { compareRuntimes } from './runtime-comparison.js'
import { RuntimeMissing, runIn, runtimes } from './runtimes.js'
import { typedArrayTransformer } from './typed-array-transformer.js'

const checkpoint = await readCheckpoint(baseFolder)
const digits = firstDigits((await loadDigits()).test, 60)
const out = await mkdtemp(join(tmpdir(), 'quickstart-'))
afterAll(() => rm(out, { recursive: true }))

const files = { model: join(out, 'model'), adapter: join(out, 'adapter') }
const name = 'vit.encoder.layer.1.attention.attention.value'
const config = createConfig({ targetModules: ['value'], nFrequency: 64, scaling: 300, initWeights: false })
const width = checkpoint.config.hidden_size
const adapter = createAdapter(config, { [name]: [width, width] })

beforeAll(async () => {
  await writeOnnxFolder(files.model, checkpoint)
  await savePretrained(adapter, files.adapter)
})

describe('the folder of the model', () => {
  it('has the files of transformers.js', async () => {
    const json = async (file: string) => JSON.parse(await readFile(join(files.model, file), 'utf8'))
    expect(await json('config.json')).toMatchObject({ model_type: 'vit', id2label: { 0: '0', 9: '9' } })
    expect(await json('preprocessor_config.json')).toMatchObject({
      image_processor_type: 'ViTImageProcessor',
      size: { height: 28, width: 28 },
      image_mean: [0.5],
    })
    expect((await readFile(join(files.model, 'onnx', 'model.onnx'))).length).toBeGreaterThan(4 * 105_546)
  })
})

describe('the image-classification pipeline of transformers.js', () => {
  it('gives the probabilities of the typed-array implementation for images with 8-bit pixels', async () => {
    const classify = await pipeline('image-classification', files.model, {
      dtype: 'fp32',
      local_files_only: true,
    })
    const adapters = await attach(classify)
    await adapters.loadAdapter(files.adapter)
    const bytes = Uint8ClampedArray.from(digits.pixels, (value) => 255 * value)
    const images = Array.from(digits.labels, (_, i) => {
      const image = bytes.subarray(i * imagePixels, (i + 1) * imagePixels)
      return new RawImage(image, imageSize, imageSize, 1)
    })
    const answers = await classify(images, { top_k: classes })
    const sorted = answers.map((answer) => [answer].flat().sort((a, b) => Number(a.label) - Number(b.label)))
    const logits = typedArrayTransformer(
      checkpoint,
      adapter.layers(),
    )({ ...digits, pixels: Float32Array.from(bytes, (value) => value / 255) })
    const expected = Array.from(digits.labels, (_, i) =>
      softmax(logits.subarray(i * classes, (i + 1) * classes)),
    )
    expect(sorted.flat()).toHaveLength(digits.count * classes)
    // A probability changes by at most half the change of the logits; its exponentials, sum and quotient are also rounded.
    const limit = roundingLimit(checkpoint.config, logits) / 2 + 2 * classes * 2 ** -24
    const scores = sorted.flat().map(({ score }) => score)
    expect(largestDifference(scores, expected.flat())).toBeLessThanOrEqual(limit)
    adapters.disableAdapters()
    const [base] = [await classify(images, { top_k: classes })].flat()
    expect(base).not.toEqual(answers[0])
    await classify.dispose()
  })
})

function softmax(logits: Float64Array): number[] {
  const powers = Array.from(logits, Math.exp)
  const sum = powers.reduce((a, b) => a + b, 0)
  return powers.map((value) => value / sum)
}

describe('runIn', () => {
  const core = {
    runtime: 'core',
    logits: typedArrayTransformer(checkpoint, adapter.layers())(digits),
    milliseconds: 1,
  }
  const base = { ...core, logits: typedArrayTransformer(checkpoint)(digits) }
  const compare = (run: Awaited<ReturnType<typeof runIn>>, expected = core) =>
    compareRuntimes({
      core: expected,
      trained: expected,
      others: [run],
      digits,
      config: checkpoint.config,
    }).at(-1)

  it.each(runtimes)('gives the same predictions in $name', async (runtime) => {
    const run = await runIn(runtime, files, digits)
    if (runtime.name.includes('native') && kernelProblem() !== undefined) {
      // If the kernel is not built on this machine, its row gives the reason. Otherwise it has to run.
      expect(run).toMatchObject({ runtime: runtime.name, reason: expect.stringContaining('native') })
      return
    }
    expect(compare(run)).toMatchObject({ runtime: runtime.name, sameLabels: digits.count, agrees: true })
    // They differ from the predictions without the adapter.
    expect(compare(run, base)).toMatchObject({ agrees: false })
  })

  it('gives the reason for an unavailable runtime', async () => {
    const open = async () => {
      throw new RuntimeMissing('it is not installed')
    }
    expect(await runIn({ name: 'none', open }, files, digits)).toEqual({
      runtime: 'none',
      reason: 'it is not installed',
    })
  })

  it.for(runtimes)('throws the error of bad files in $name', async (runtime, { skip }) => {
    skip(runtime.name.includes('native') && kernelProblem() !== undefined, kernelProblem())
    const missing = { ...files, adapter: join(out, 'nowhere') }
    await expect(runIn(runtime, missing, digits)).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
  })
})

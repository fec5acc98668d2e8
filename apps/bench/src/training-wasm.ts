/**
 * Measures training on WebAssembly, in Node: onnxruntime-web against TensorFlow.js's wasm backend, on the same encoder with random weights. Both
 * builds use SIMD; each runs in fresh processes, on one thread.
 */
import { fileURLToPath } from 'node:url'
import { createConfig } from '@fourierft/core'
import { createSession, createTrainer, meanSquaredError, type TrainingBatch } from '@fourierft/onnxruntime'
import type { Scalar } from '@tensorflow/tfjs-core'
import { inFreshProcess, measureSteps, type StepCosts } from './fresh-process.js'
import { noise } from './layer-chain.js'
import { printSection, type RunLength } from './measure.js'
import { randomTransformer, type TransformerSize } from './random-transformer.js'
import { printPeaks, printRatio, rounds } from './training.js'

const N = 1000

interface Plan {
  readonly size: TransformerSize
  readonly rows: number
  readonly tokens: number
  readonly steps: number
  readonly rounds: number
}

const PLANS: Readonly<Record<RunLength, Plan>> = {
  quick: {
    size: { layers: 2, width: 128, heads: 2, vocabulary: 1000, positions: 0 },
    rows: 2,
    tokens: 16,
    steps: 1,
    rounds: 1,
  },
  full: {
    size: { layers: 4, width: 384, heads: 6, vocabulary: 16_000, positions: 0 },
    rows: 8,
    tokens: 64,
    steps: 3,
    rounds: 3,
  },
}

const CASES = ['onnxruntime-web, forward', 'onnxruntime-web', 'TensorFlow.js'] as const

export async function benchmarkWasmTraining(runLength: RunLength): Promise<void> {
  console.log('\ntraining on WebAssembly')
  const { size, rows, tokens, rounds: count } = PLANS[runLength]
  const measured = rounds(
    Object.fromEntries(
      CASES.map((name) => [name, () => inFreshProcess<StepCosts>(import.meta.url, runLength, name)]),
    ),
    count,
  )
  printSection(
    'A training step on WebAssembly',
    `encoder, ${size.layers} layers of ${size.width}, ${rows} × ${tokens} tokens, query and value, n = ${N}, mean squared error; one thread`,
  )
  printRatio(measured, 'onnxruntime-web', 'TensorFlow.js', 'time', runLength === 'full' ? 1 : undefined)
  printRatio(measured, 'onnxruntime-web', 'onnxruntime-web, forward', 'time')
  printPeaks(measured, 'TensorFlow.js', { name: 'onnxruntime-web' })
}

async function measure(
  { size, rows, tokens, steps }: Plan,
  name: (typeof CASES)[number],
): Promise<StepCosts> {
  const count = rows * tokens
  const ids = Int32Array.from({ length: count }, (_, i) => (i * 7919) % size.vocabulary)
  const labels = noise(count * size.width)
  if (name === 'TensorFlow.js') return tensorflowSteps()
  const ort = await import('onnxruntime-web')
  ort.env.wasm.numThreads = 1
  const batch: TrainingBatch = {
    feeds: {
      input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [rows, tokens]),
      attention_mask: new ort.Tensor('int64', new BigInt64Array(count).fill(1n), [rows, tokens]),
    },
    labels: new ort.Tensor('float32', labels, [rows, tokens, size.width]),
  }
  const model = new Uint8Array(Buffer.concat(randomTransformer('encoder', size)))
  if (name === 'onnxruntime-web, forward') {
    const session = await ort.InferenceSession.create(model)
    return measureSteps(steps, () => session.run(batch.feeds))
  }
  const session = await createSession(model, { ort })
  await session.addAdapter(
    'trained',
    createConfig({ targetModules: ['query', 'value'], nFrequency: N, initWeights: true }),
  )
  const trainer = await createTrainer(session, {
    adapter: 'trained',
    loss: meanSquaredError('last_hidden_state'),
  })
  return measureSteps(steps, () => trainer.step(batch))

  async function tensorflowSteps(): Promise<StepCosts> {
    const tf = await import('@tensorflow/tfjs-core')
    const wasm = await import('@tensorflow/tfjs-backend-wasm')
    wasm.setThreadsCount(1)
    await tf.setBackend('wasm')
    const { AdamW } = await import('@fourierft/tfjs')
    const { tfjsEncoder } = await import('./wasm-transformer.js')
    const encoder = tfjsEncoder(size, N)
    const optimizer = new AdamW({ learningRate: 0.05 })
    const input = tf.tensor2d(ids, [rows, tokens], 'int32')
    const target = tf.tensor(labels, [rows, tokens, size.width])
    const loss = () => tf.mean<Scalar>(tf.squaredDifference(encoder.apply(input), target))
    return measureSteps(steps, async () => {
      const value = optimizer.minimize(loss, true, [...encoder.coefficients])
      await value?.data()
      value?.dispose()
    })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [runLength, name] = process.argv.slice(2) as [RunLength, (typeof CASES)[number]]
  console.log(JSON.stringify(await measure(PLANS[runLength], name)))
  process.exit()
}

/** Measurements of `@fourierft/tfjs` in Node: on TensorFlow.js's wasm backend, or on TensorFlow's own binding with the native operator. */
import { uniformEntries } from '@fourierft/core'
import { type Adapters, attach, createTfjsBackend, disposeTables, fourierLinear } from '@fourierft/tfjs'
import * as tf from '@tensorflow/tfjs-core'
import { type LayersModel, layers, sequential } from '@tensorflow/tfjs-layers'
import { type Clock, type Effort, printRatios, printSection } from './measure.js'

const N = 1000

/** Both backends may compute on several threads. */
const CLOCK: Clock = 'wall'

export async function benchmarkTfjs(effort: Effort, name: 'wasm' | 'node'): Promise<void> {
  const { strategies } = await createTfjsBackend(name)
  console.log(`\ntfjs-${name}`)
  await trainingSteps(effort, name === 'node' ? [768, 1024, 4096] : [768, 1024])
  await compareStrategies(effort, strategies.includes('native'))
  await swaps(effort)
  if (name === 'wasm') await transposedProducts(effort)
}

/** Forward and backward pass of one layer; what a training step spends elsewhere is the same for all. */
async function trainingSteps(effort: Effort, widths: readonly number[]): Promise<void> {
  printSection(
    'Forward and backward pass of one layer',
    `n = ${N}, LoRA r = 8; as multiples of the frozen layer as TensorFlow.js differentiates it`,
  )
  const sizes = effort === 'quick' ? [[256, 8]] : widths.flatMap((d) => [1, 32, 512].map((t) => [d, t]))
  for (const [d, tokens] of sizes) {
    const frozen = denseModel(d)
    const adapted = denseModel(d)
    const adapters = attach(adapted, { targetModules: ['linear'], nFrequency: N })
    const c = adapters.coefficients('default', 'linear')
    const x = tf.randomNormal([tokens, d])
    const g = tf.randomNormal([tokens, d])
    const w = tf.randomNormal([d, d])
    const a = tf.randomNormal([d, 8])
    const b = tf.randomNormal([8, d])
    const lora = (x: tf.Tensor, a: tf.Tensor, b: tf.Tensor) =>
      tf.add(tf.matMul(x, w), tf.matMul(tf.matMul(x, a), b))
    await printRatios(
      `${d}×${d}, T = ${tokens}`,
      [
        { name: 'frozen', run: gradients((x) => frozen.apply(x) as tf.Tensor, [x], g) },
        { name: 'FourierFT', run: gradients((x) => adapted.apply(x) as tf.Tensor, [x, c], g) },
        { name: 'LoRA', run: gradients(lora, [x, a, b], g) },
      ],
      effort,
      CLOCK,
    )
    adapters.detach()
    frozen.dispose()
    adapted.dispose()
    tf.dispose([x, g, w, a, b])
  }
}

async function compareStrategies(effort: Effort, native: boolean): Promise<void> {
  const names = ['auto', 'dense', 'factored', 'spectral', ...(native ? (['native'] as const) : [])] as const
  printSection('Strategies, forward pass of the adapter alone', 'as multiples of what auto chooses')
  const sizes =
    effort === 'quick'
      ? [[64, 32, 100]]
      : [
          [64, 32, 200],
          [64, 512, 200],
          [64, 2048, 1000],
          [256, 128, 500],
          [256, 2048, 500],
          [768, 1, N],
          [768, 512, N],
        ]
  for (const [d, tokens, n] of sizes) {
    const spec = {
      shape: [d, d],
      entries: uniformEntries({ shape: [d, d], n, seed: 1 }),
      scaling: 1,
    } as const
    const x = tf.randomNormal([tokens, d])
    const c = tf.randomNormal([n])
    const run = (strategy: (typeof names)[number]) => () => {
      const y = fourierLinear(x, c, spec, { strategy })
      y.dataSync()
      y.dispose()
    }
    await printRatios(
      `${d}×${d}, n = ${n}, T = ${tokens}`,
      names.map((name) => ({ name, run: run(name) })),
      effort,
      CLOCK,
    )
    tf.dispose([x, c])
    disposeTables()
  }
}

async function swaps(effort: Effort): Promise<void> {
  printSection(
    'Switching between two adapters',
    'setAdapter() alone, as a multiple of a forward pass of the model',
  )
  const d = effort === 'quick' ? 256 : 768
  const model = denseModel(d)
  const adapters = attach(model)
  adapters.addAdapter('a', { targetModules: ['linear'], nFrequency: N })
  adapters.addAdapter('b', { targetModules: ['linear'], nFrequency: N })
  const x = tf.randomNormal([1, d])
  await printRatios(
    `${d}×${d}, T = 1`,
    [
      { name: 'forward', run: forward(model, x) },
      { name: 'setAdapter()', run: switching(adapters) },
    ],
    effort,
    CLOCK,
  )
  adapters.detach()
  model.dispose()
  x.dispose()
}

async function transposedProducts(effort: Effort): Promise<void> {
  printSection(
    'Why',
    'x·Wᵀ as multiples of x·W: as TensorFlow.js differentiates, and transposed first as this package does',
  )
  const d = effort === 'quick' ? 256 : 768
  for (const tokens of effort === 'quick' ? [8] : [32, 512]) {
    const x = tf.randomNormal([tokens, d])
    const w = tf.randomNormal([d, d])
    await printRatios(
      `${d}×${d}, T = ${tokens}`,
      [
        { name: 'plain', run: finish(() => tf.matMul(x, w)) },
        { name: 'matMul(x, w, false, true)', run: finish(() => tf.matMul(x, w, false, true)) },
        { name: 'matMul(x, transpose(w))', run: finish(() => tf.matMul(x, tf.transpose(w))) },
      ],
      effort,
      CLOCK,
    )
    tf.dispose([x, w])
  }
}

function denseModel(d: number): LayersModel {
  return sequential({ layers: [layers.dense({ name: 'linear', units: d, inputShape: [d] })] })
}

function gradients(f: (...inputs: tf.Tensor[]) => tf.Tensor, inputs: tf.Tensor[], g: tf.Tensor): () => void {
  const run = tf.grads(f)
  return () => {
    const results = run(inputs, g)
    for (const result of results) result.dataSync()
    tf.dispose(results)
  }
}

function forward(model: LayersModel, x: tf.Tensor): () => void {
  return finish(() => model.apply(x) as tf.Tensor)
}

function switching(adapters: Adapters): () => void {
  let i = 0
  return () => adapters.setAdapter(i++ % 2 === 0 ? 'a' : 'b')
}

function finish(make: () => tf.Tensor): () => void {
  return () => {
    const result = tf.tidy(make)
    result.dataSync()
    result.dispose()
  }
}

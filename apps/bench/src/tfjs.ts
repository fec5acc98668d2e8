/** Measures `@fourierft/tfjs` in Node, on TensorFlow.js's wasm backend or on TensorFlow's binding with the native operator. */
import { uniformEntries } from '@fourierft/core'
import {
  type Adapters,
  attach,
  calibrate,
  chooseStrategy,
  disposeTables,
  fourierLinear,
  type TfjsStrategy,
} from '@fourierft/tfjs'
import { createTfjsBackend } from '@fourierft/tfjs/conformance'
import * as tf from '@tensorflow/tfjs-core'
import { type LayersModel, layers, sequential } from '@tensorflow/tfjs-layers'
import {
  type Case,
  type Clock,
  formatRatio,
  interleave,
  printRatios,
  printSection,
  type RunLength,
  ratio,
} from './measure.js'
import { printPeakMemory } from './peak-memory.js'
import { type PeftProcess, startPeftProcess } from './peft-process.js'

const N = 1000

/** Both backends may use several threads. */
const CLOCK: Clock = 'wall'

export async function benchmarkTfjs(runLength: RunLength, name: 'wasm' | 'node'): Promise<void> {
  const { strategies } = await createTfjsBackend(name)
  const native = strategies.includes('native')
  console.log(`\ntfjs-${name}`)
  const sizes =
    runLength === 'quick'
      ? ([[256, 8]] as const)
      : (name === 'node' ? [768, 1024, 4096] : [768, 1024]).flatMap((d) =>
          [1, 32, 512].map((t) => [d, t] as const),
        )
  const peft = await startPeftProcess()
  console.log(peft ? peft.description : 'without PEFT: set FOURIERFT_PYTHON to a Python with PEFT')
  try {
    await forwardPasses(runLength, sizes, name === 'node', native, peft)
    await trainingSteps(runLength, sizes, native, peft)
  } finally {
    peft?.stop()
  }
  await compareStrategies(runLength, native)
  await swaps(runLength)
  if (name === 'node') printPeakMemory(runLength)
  else await transposedProducts(runLength)
}

/** Returns the cheapest `x·W + b`: one fused product, with only the gradient of the input, which TensorFlow.js's fused product does not have. */
function frozenLayer(d: number): { linear: (x: tf.Tensor) => tf.Tensor; dispose: () => void } {
  const w = tf.randomNormal<tf.Rank.R2>([d, d])
  const bias = tf.zeros([d])
  const linear = tf.customGrad((x, _save) => ({
    value: tf.fused.matMul({ a: x as tf.Tensor, b: w, bias }),
    gradFunc: (dy: tf.Tensor) => tf.matMul(dy, w, false, true),
  }))
  return { linear, dispose: () => tf.dispose([w, bias]) }
}

async function forwardPasses(
  runLength: RunLength,
  sizes: readonly (readonly [number, number])[],
  hasFft: boolean,
  native: boolean,
  peft: PeftProcess | undefined,
): Promise<void> {
  printSection(
    'Forward pass of one layer',
    `n = ${N}, LoRA r = 8; as multiples of the frozen layer. naive: a dense spectrum and TensorFlow.js's FFT in every pass` +
      (hasFft ? ', which has no gradient there' : ' (wasm has no FFT)'),
  )
  for (const [d, tokens] of sizes) {
    const frozen = frozenLayer(d)
    const adapted = adaptedLayer(d, 'auto')
    const plain = adaptedLayer(d, 'spectral')
    const x = tf.randomNormal([tokens, d])
    const a = tf.randomNormal([d, 8])
    const b = tf.randomNormal([8, d])
    const lora = () => tf.add(frozen.linear(x), tf.matMul(tf.matMul(x, a), b))
    const entries = uniformEntries({ shape: [d, d], n: N, seed: 777 })
    const positions = tf.tensor2d(
      [...entries.rows].flatMap((j, l) => [j, entries.columns[l]]),
      [N, 2],
      'int32',
    )
    const c = tf.randomNormal<tf.Rank.R1>([N])
    const naive = () => tf.add(frozen.linear(x), tf.matMul(x, naiveDelta(positions, c, d), false, true))
    await printRatios(
      `${d}×${d}, T = ${tokens}`,
      [
        { name: 'frozen', run: finish(() => frozen.linear(x)) },
        { name: 'FourierFT', run: finish(() => adapted.apply(x)) },
        ...(native
          ? [
              {
                name: 'without native',
                run: finish(() => plain.apply(x)),
                goal: runLength === 'full' ? goalWithoutNative(d, tokens) : undefined,
              },
            ]
          : []),
        { name: 'LoRA', run: finish(lora) },
        ...(hasFft ? [{ name: 'naive', run: finish(naive) }] : []),
        ...peftCases(peft, 'forward', d, tokens),
      ],
      runLength,
      CLOCK,
    )
    for (const layer of [frozen, adapted, plain]) layer.dispose()
    tf.dispose([x, a, b, positions, c])
  }
}

/** Returns `Re(ifft2(F))` as a user would write it in TensorFlow.js. */
function naiveDelta(positions: tf.Tensor2D, c: tf.Tensor1D, d: number): tf.Tensor2D {
  const spectrum = tf.scatterND(positions, c, [d, d])
  const rows = tf.ifft(tf.complex(spectrum, tf.zerosLike(spectrum)) as tf.Tensor)
  const columns = tf.complex(tf.transpose(tf.real(rows)), tf.transpose(tf.imag(rows)))
  return tf.transpose(tf.real(tf.ifft(columns))) as tf.Tensor2D
}

function peftCases(
  peft: PeftProcess | undefined,
  pass: 'forward' | 'training',
  d: number,
  tokens: number,
): Case[] {
  if (!peft) return []
  // PEFT's FourierFT takes more than a second for these sizes.
  const names = d >= 4096 && tokens > 32 ? (['LoRA'] as const) : (['LoRA', 'FourierFT'] as const)
  return names.map((name) => peft.case(name, pass, { d, tokens }))
}

function adaptedLayer(d: number, strategy: 'auto' | 'spectral') {
  const model = denseModel(d)
  const adapters = attach(model, { targetModules: ['linear'], nFrequency: N }, { strategy })
  return {
    apply: (x: tf.Tensor) => model.apply(x) as tf.Tensor,
    c: adapters.coefficients('default', 'linear'),
    dispose: () => {
      adapters.detach()
      model.dispose()
    },
  }
}

/** Returns the goal for the forward and backward pass with the native operator, as a multiple of the frozen layer. */
function goalOf(d: number, tokens: number): number | undefined {
  if (d === 4096) return 1.02
  if (d === 1024) return tokens >= 32 ? 1.07 : undefined
  return tokens >= 32 ? 1.09 : 1.2
}

/** Returns the goal for the forward pass without the native operator, as a multiple of the frozen layer. */
function goalWithoutNative(d: number, tokens: number): number | undefined {
  if (tokens < 32) return undefined
  if (d === 4096) return 1.15
  return d === 1024 ? 1.6 : 2
}

/** Measures the forward and backward pass of one layer; the rest of a training step is the same for all methods. */
async function trainingSteps(
  runLength: RunLength,
  sizes: readonly (readonly [number, number])[],
  native: boolean,
  peft: PeftProcess | undefined,
): Promise<void> {
  printSection(
    'Forward and backward pass of one layer',
    `n = ${N}, LoRA r = 8; as multiples of the frozen layer with the gradient of its input only. Dense: TensorFlow.js's layer, whose gradient ` +
      'always includes that of the kernel',
  )
  for (const [d, tokens] of sizes) {
    const frozen = frozenLayer(d)
    const dense = denseModel(d)
    const adapted = adaptedLayer(d, 'auto')
    const plain = adaptedLayer(d, 'spectral')
    const x = tf.randomNormal([tokens, d])
    const g = tf.randomNormal([tokens, d])
    const a = tf.randomNormal([d, 8])
    const b = tf.randomNormal([8, d])
    const lora = (x: tf.Tensor, a: tf.Tensor, b: tf.Tensor) =>
      tf.add(frozen.linear(x), tf.matMul(tf.matMul(x, a), b))
    await printRatios(
      `${d}×${d}, T = ${tokens}`,
      [
        { name: 'frozen', run: gradients(frozen.linear, [x], g) },
        { name: 'Dense', run: gradients((x) => dense.apply(x) as tf.Tensor, [x], g) },
        {
          name: 'FourierFT',
          run: gradients(adapted.apply, [x, adapted.c], g),
          goal: native && runLength === 'full' ? goalOf(d, tokens) : undefined,
        },
        ...(native ? [{ name: 'without native', run: gradients(plain.apply, [x, plain.c], g) }] : []),
        { name: 'LoRA', run: gradients(lora, [x, a, b], g) },
        ...peftCases(peft, 'training', d, tokens),
      ],
      runLength,
      CLOCK,
    )
    for (const layer of [frozen, dense, adapted, plain]) layer.dispose()
    tf.dispose([x, g, a, b])
  }
}

async function compareStrategies(runLength: RunLength, native: boolean): Promise<void> {
  const names: TfjsStrategy[] = ['dense', 'factored', 'spectral', ...(native ? (['native'] as const) : [])]
  const sizes =
    runLength === 'quick'
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
  const compare = async (explanation: string) => {
    printSection('Strategies, forward pass of the branch', explanation)
    for (const [d, tokens, n] of sizes) {
      const spec = {
        shape: [d, d],
        entries: uniformEntries({ shape: [d, d], n, seed: 1 }),
        scaling: 1,
      } as const
      const x = tf.randomNormal([tokens, d])
      const c = tf.randomNormal([n])
      const run = (strategy: TfjsStrategy) => () => {
        const y = fourierLinear(x, c, spec, { strategy })
        y.dataSync()
        y.dispose()
      }
      const times = await interleave(
        names.map((name) => ({ name, run: run(name) })),
        runLength,
        CLOCK,
      )
      const choice = chooseStrategy({ tokens, shape: spec.shape, n })
      const chosen = times[names.indexOf(choice)]
      const columns = times.map((measured, i) => `${names[i]} ${formatRatio(ratio(measured, chosen))}`)
      // The fastest rounds are least disturbed by other load on the machine.
      const slowdown = Math.min(...chosen) / Math.min(...times.flat())
      const verdict = `auto: ${choice}, over the fastest ${slowdown.toPrecision(3)} (goal 1.1: ${slowdown <= 1.1 ? 'met' : 'missed'})`
      console.log(`  ${`${d}×${d}, n = ${n}, T = ${tokens}`.padEnd(30)}${[...columns, verdict].join('   ')}`)
      tf.dispose([x, c])
      disposeTables()
    }
  }
  await compare('as multiples of the choice of auto, with the crossovers of the package')
  const measured = sizes.map(([d, tokens, n]) => ({ shape: [d, d] as const, tokens, n }))
  await calibrate({ sizes: measured, timeLimit: 5000 * sizes.length })
  await compare('the same after calibrate(), with the crossovers measured on this machine')
}

async function swaps(runLength: RunLength): Promise<void> {
  printSection(
    'Switching between two adapters',
    'only setAdapter(), as a multiple of a forward pass of the model',
  )
  const d = runLength === 'quick' ? 256 : 768
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
    runLength,
    CLOCK,
  )
  adapters.detach()
  model.dispose()
  x.dispose()
}

async function transposedProducts(runLength: RunLength): Promise<void> {
  printSection(
    'Transposed products',
    'x·Wᵀ as a multiple of x·W: matMul with its option, as in the gradients of TensorFlow.js, and a transposition before matMul, as in this package',
  )
  const d = runLength === 'quick' ? 256 : 768
  for (const tokens of runLength === 'quick' ? [8] : [32, 512]) {
    const x = tf.randomNormal([tokens, d])
    const w = tf.randomNormal([d, d])
    await printRatios(
      `${d}×${d}, T = ${tokens}`,
      [
        { name: 'plain', run: finish(() => tf.matMul(x, w)) },
        { name: 'matMul(x, w, false, true)', run: finish(() => tf.matMul(x, w, false, true)) },
        { name: 'matMul(x, transpose(w))', run: finish(() => tf.matMul(x, tf.transpose(w))) },
      ],
      runLength,
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

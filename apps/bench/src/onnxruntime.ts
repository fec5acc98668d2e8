/**
 * Measures `@fourierft/onnxruntime` in Node: layers, an adapter for each row, switching, and a whole model, with the native kernel and the portable
 * function. They are compared with the frozen layer and LoRA in the same ONNX Runtime, PEFT on PyTorch, and pocketfft.
 *
 * All cases run on one thread and are measured in processor time, which other load disturbs least. A layer is one of a chain of layers with their own
 * weights, so that neither the fixed costs of a run nor a weight that stays in the cache distort the result.
 */
import { fileURLToPath } from 'node:url'
import { DOMAIN } from '@fourierft/onnx'
import { type AdaptedSession, createSession, registerFourierFTBackend } from '@fourierft/onnxruntime'
import * as ort from 'onnxruntime-node'
import { printInHugePages } from './fresh-process.js'
import {
  branchesModel,
  type Chain,
  type Method,
  moduleOf,
  noise,
  servingModel,
  trainingModel,
} from './layer-chain.js'
import {
  type Case,
  type Clock,
  type Comparison,
  printRatios,
  printSection,
  type RunLength,
} from './measure.js'
import { printAdapterMemory, printStartUp } from './onnxruntime-memory.js'
import { type PeftProcess, startPeftProcess } from './peft-process.js'
import { randomAdapter } from './random-adapter.js'
import { findEncoder, switching, wholeModel } from './sentence-encoder.js'

const N = 1000
const CLOCK: Clock = 'processor'
const ONE_THREAD = { intraOpNumThreads: 1, interOpNumThreads: 1 }
/** Options of sessions that compute branches with the native operator. */
const NATIVE = { ...ONE_THREAD, executionProviders: [{ name: DOMAIN }] }

interface Size extends Chain {
  readonly tokens: number
}

export async function benchmarkOnnxRuntime(runLength: RunLength): Promise<void> {
  printInHugePages(import.meta.url, runLength)
}

async function measure(runLength: RunLength): Promise<void> {
  const hasNative = await registerNative()
  const sizes = sizesOf(runLength)
  console.log(`\nonnxruntime\nONNX Runtime ${ort.env.versions.node}, one thread`)
  const peft = await startPeftProcess({ threads: 1, clock: CLOCK })
  console.log(
    peft?.description ?? 'without PEFT and pocketfft: set FOURIERFT_PYTHON to a Python with PEFT and NumPy',
  )
  try {
    await forwardPasses(runLength, sizes, hasNative, peft)
    await trainingSteps(runLength, sizes, hasNative, peft)
    if (hasNative) await onlyBranches(runLength, sizes, peft)
  } finally {
    peft?.stop()
  }
  await adapterPerRow(runLength, hasNative)
  printAdapterMemory(runLength, hasNative ? ['native', 'portable'] : ['portable'])
  const encoder = findEncoder()
  if (encoder === undefined) {
    console.log('\nwithout a whole model: fetch it with node packages/onnxruntime/scripts/minilm.js')
    return
  }
  await wholeModel(runLength, encoder, hasNative, CLOCK)
  await switching(runLength, encoder, hasNative, CLOCK)
  printStartUp(runLength, encoder, hasNative)
}

/** Registers the native kernel if it is available, and returns whether it is. Otherwise the package prints the reason. */
async function registerNative(): Promise<boolean> {
  const session = await createSession(servingModel({ d: 8, layers: 1 }, 'frozen'))
  const { usesNativeKernel } = session
  await session.release()
  if (usesNativeKernel) registerFourierFTBackend(ort)
  return usesNativeKernel
}

function sizesOf(runLength: RunLength): Size[] {
  if (runLength === 'quick') return [{ d: 256, layers: 2, tokens: 8 }]
  return [768, 1024, 4096].flatMap((d) => [1, 32, 512].map((tokens) => sizeOf(d, tokens)))
}

function sizeOf(d: number, tokens: number): Size {
  return { d, tokens, layers: d === 4096 ? 1 : tokens > 32 ? 2 : 12 }
}

const titleOf = ({ d, tokens }: Size) => `${d}×${d}, T = ${tokens}`

const floats = (data: Float32Array, dims: readonly number[]) => new ort.Tensor('float32', data, dims)

async function forwardPasses(
  runLength: RunLength,
  sizes: readonly Size[],
  hasNative: boolean,
  peft: PeftProcess | undefined,
): Promise<void> {
  printSection(
    'Forward pass of one layer',
    `n = ${N}, LoRA r = 8; as multiples of the frozen layer in ONNX Runtime. repeat: the same model in a second session. native, portable: sessions of createSession()`,
  )
  for (const size of sizes) {
    const x = floats(noise(size.tokens * size.d), [size.tokens, size.d])
    const model = servingModel(size, 'frozen')
    const frozen = await ort.InferenceSession.create(model, ONE_THREAD)
    const repeat = await ort.InferenceSession.create(model, ONE_THREAD)
    const lora = await ort.InferenceSession.create(servingModel(size, 'LoRA'), ONE_THREAD)
    const adapters = randomAdapter(chainShapes(size), N, 1)
    const adapted = async (native: boolean) => createSession(model, { ...ONE_THREAD, adapters, native })
    const portable = await adapted(false)
    const native = hasNative ? await adapted(true) : undefined
    await printRatios(
      titleOf(size),
      [
        runs('frozen', frozen, { x }),
        runs('repeat', repeat, { x }),
        ...(native ? [runs('native', native, { x })] : []),
        { ...runs('portable', portable, { x }), goal: runLength === 'full' ? portableGoal(size) : undefined },
        runs('LoRA', lora, { x }),
        ...peftCases(peft, 'forward', size),
      ],
      runLength,
      CLOCK,
      runLength === 'full' ? comparisonsOf(size) : [],
    )
    for (const session of [frozen, repeat, lora, portable, native]) await session?.release()
  }
}

async function trainingSteps(
  runLength: RunLength,
  sizes: readonly Size[],
  hasNative: boolean,
  peft: PeftProcess | undefined,
): Promise<void> {
  printSection(
    'Forward and backward pass of one layer',
    `n = ${N}, LoRA r = 8; as multiples of the frozen layer's two products in ONNX Runtime. native, portable: FourierFT and FourierFTGrad`,
  )
  for (const size of sizes) {
    const { d, tokens } = size
    const common = {
      x: floats(noise(tokens * d), [tokens, d]),
      g: floats(noise(tokens * d), [tokens, d]),
    }
    const feeds = trainedInputs(size)
    const sessions: ort.InferenceSession[] = []
    const step = async (name: string, method: Method, options: ort.InferenceSession.SessionOptions) => {
      const session = await ort.InferenceSession.create(trainingModel(size, method, N), options)
      sessions.push(session)
      return runs(name, session, { ...common, ...feeds[method] })
    }
    const goal = runLength === 'full' ? nativeGoal(size) : undefined
    await printRatios(
      titleOf(size),
      [
        await step('frozen', 'frozen', ONE_THREAD),
        await step('repeat', 'frozen', ONE_THREAD),
        ...(hasNative ? [{ ...(await step('native', 'FourierFT', NATIVE)), goal }] : []),
        await step('portable', 'FourierFT', ONE_THREAD),
        await step('LoRA', 'LoRA', ONE_THREAD),
        ...peftCases(peft, 'training', size),
      ],
      runLength,
      CLOCK,
      runLength === 'full' ? comparisonsOf(size) : [],
    )
    for (const session of sessions) await session.release()
  }
}

/** Returns the inputs of a training step in addition to `x` and `g`. */
function trainedInputs({ d, layers }: Size): Record<Method, Record<string, ort.Tensor>> {
  const feeds: Record<Method, Record<string, ort.Tensor>> = { frozen: {}, LoRA: {}, FourierFT: {} }
  feeds.FourierFT.rows = new ort.Tensor('int64', BigInt64Array.of(0n), [1])
  for (let i = 0; i < layers; i++) {
    feeds.FourierFT[`c${i}`] = floats(noise(N), [1, N])
    feeds.LoRA[`a${i}`] = floats(noise(d * 8, d ** -0.5), [d, 8])
    feeds.LoRA[`b${i}`] = floats(noise(8 * d), [8, d])
  }
  return feeds
}

/** Measures branches without the products of the layers, so that the addresses of the weights in two sessions do not matter. */
async function onlyBranches(
  runLength: RunLength,
  sizes: readonly Size[],
  peft: PeftProcess | undefined,
): Promise<void> {
  printSection(
    'The cost of the native branch, without the products of the layer',
    "FourierFT and FourierFTGrad, which adds to the gradient of x in place, as a multiple of the frozen layer's two products",
  )
  for (const size of sizes) {
    const { d, tokens } = size
    const frozen = await ort.InferenceSession.create(trainingModel(size, 'frozen', N), ONE_THREAD)
    const chain = { d, layers: 12 }
    const branches = await ort.InferenceSession.create(branchesModel(chain, N, true), NATIVE)
    const { x, z, ...others } = branchFeeds(d, tokens, 1)
    const goal = nativeGoal(size)
    await printRatios(
      titleOf(size),
      [
        { ...runs('frozen', frozen, { x, g: z }), parts: size.layers },
        {
          ...runs('branch', branches, { x, z, g: z, ...others }),
          parts: chain.layers,
          goal: runLength === 'full' && goal !== undefined ? Number((goal - 1).toFixed(2)) : undefined,
        },
      ],
      runLength,
      CLOCK,
    )
    for (const session of [frozen, branches]) await session.release()
  }
  if (!peft) return
  printSection(
    'The native branch and pocketfft',
    'the operator, forward, as a multiple of rfft and irfft of the same rows through NumPy',
  )
  for (const size of sizes) {
    const { d, tokens } = size
    const chain = { d, layers: 12 }
    const session = await ort.InferenceSession.create(branchesModel(chain, N), NATIVE)
    await printRatios(
      titleOf(size),
      [
        peft.case('pocketfft', 'forward', { ...chain, tokens }),
        {
          ...runs('native', session, branchFeeds(d, tokens, 1)),
          goal: runLength === 'full' ? 0.5 : undefined,
        },
      ],
      runLength,
      CLOCK,
    )
    await session.release()
  }
}

async function adapterPerRow(runLength: RunLength, hasNative: boolean): Promise<void> {
  const count = runLength === 'quick' ? 4 : 64
  printSection(
    `${count} rows with ${count} adapters`,
    'as a multiple of the same rows with one adapter. layer: a session of createSession(); branch: only the operator',
  )
  const names = Array.from({ length: count }, (_, i) => `adapter${i}`)
  const goal = runLength === 'full' ? 1.15 : undefined
  for (const d of runLength === 'quick' ? [256] : [768, 4096]) {
    const size = { ...sizeOf(d, count), ...(runLength === 'quick' ? { layers: 1 } : {}) }
    const model = servingModel(size, 'frozen')
    const adapters = Object.fromEntries(
      names.map((name, i) => [name, randomAdapter(chainShapes(size), N, i)]),
    )
    const x = floats(noise(count * d), [count, d])
    for (const native of hasNative ? [true, false] : [false]) {
      const session = await createSession(model, { ...ONE_THREAD, adapters, native })
      await printRatios(
        `${d}×${d}, layer, ${native ? 'native' : 'portable'}`,
        [
          runs('one', session, { x }),
          {
            name: `${count} adapters`,
            run: async () => {
              await session.run({ x }, { adapters: names })
            },
            ...(native && { goal }),
          },
        ],
        runLength,
        CLOCK,
      )
      await session.release()
    }
    if (!hasNative) continue
    const branches = await ort.InferenceSession.create(branchesModel({ d, layers: 12 }, N), NATIVE)
    await printRatios(
      `${d}×${d}, branch, native`,
      [
        runs('one', branches, branchFeeds(d, count, 1)),
        { ...runs(`${count} adapters`, branches, branchFeeds(d, count, count)), goal },
      ],
      runLength,
      CLOCK,
    )
    await branches.release()
  }
}

function branchFeeds(d: number, tokens: number, adapters: number): Record<string, ort.Tensor> {
  return {
    x: floats(noise(tokens * d), [tokens, d]),
    z: floats(noise(tokens * d), [tokens, d]),
    c: floats(noise(adapters * N), [adapters, N]),
    rows: new ort.Tensor(
      'int64',
      BigInt64Array.from({ length: adapters }, (_, i) => BigInt(i)),
      [adapters],
    ),
  }
}

function runs(
  name: string,
  session: ort.InferenceSession | AdaptedSession,
  feeds: Record<string, ort.Tensor>,
): Case {
  return {
    name,
    run: async () => {
      await session.run(feeds)
    },
  }
}

const chainShapes = ({ d, layers }: Chain) =>
  Object.fromEntries(Array.from({ length: layers }, (_, i) => [moduleOf(i), [d, d] as const]))

function peftCases(peft: PeftProcess | undefined, pass: 'forward' | 'training', size: Size): Case[] {
  if (!peft) return []
  // PEFT's FourierFT takes more than a second for these sizes.
  const isLong = size.d >= 4096 && size.tokens > 32
  const names = isLong ? (['frozen', 'LoRA'] as const) : (['frozen', 'LoRA', 'FourierFT'] as const)
  return names.map((name) => peft.case(name, pass, size))
}

/** Returns the goal for a layer with the portable branch, as a multiple of the frozen layer. */
function portableGoal({ d, tokens }: Size): number | undefined {
  if (tokens < 32) return undefined
  return d === 4096 ? 1.15 : d === 1024 ? 1.6 : 2
}

/** Returns the goal for the forward and backward pass with the native branch, as a multiple of the frozen layer. */
function nativeGoal({ d, tokens }: Size): number | undefined {
  if (d === 4096) return 1.02
  if (tokens < 32) return d === 768 ? 1.2 : undefined
  return d === 1024 ? 1.07 : 1.09
}

function comparisonsOf({ d, tokens }: Size): Comparison[] {
  return [
    { name: 'native', baseline: 'LoRA' },
    { name: 'native', baseline: 'PEFT LoRA', goal: 1 },
    { name: 'native', baseline: 'PEFT FourierFT', goal: d === 4096 && tokens <= 32 ? 0.05 : 1 },
  ]
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await measure(process.argv[2] as RunLength)

/**
 * Measures what a branch costs inside ONNX Runtime, forward and backward, against the native kernel by itself, and the kernel's cost of a token in
 * large and small batches. Each case runs in fresh processes, on one thread.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { FourierFTError } from '@fourierft/core'
import { DOMAIN } from '@fourierft/onnx'
import { createSession, registerFourierFTBackend } from '@fourierft/onnxruntime'
import * as ort from 'onnxruntime-node'
import { inFreshProcess, processorTime } from './fresh-process.js'
import { branchesModel, noise, servingModel } from './layer-chain.js'
import { formatWithGoal, printSection, type RunLength } from './measure.js'
import { compileKernel } from './native.js'

const N = 1000
const ROUNDS: Readonly<Record<RunLength, number>> = { quick: 1, full: 15 }
const SCRIPT = fileURLToPath(new URL('../python/kernel_steps.py', import.meta.url))
const [SMALL, LARGE] = [32, 512]

interface Size {
  readonly width: number
  readonly tokens: number
  /** In one run. The costs of a run itself are spread over them, as in a model. */
  readonly branches: number
  readonly repeats: number
}

interface Cost {
  /** Of one branch. */
  readonly milliseconds: number
}

export async function benchmarkBranch(runLength: RunLength): Promise<void> {
  console.log('\ntraining, the branch')
  const python = process.env.FOURIERFT_PYTHON ?? 'python3'
  if (spawnSync(python, ['-c', 'import numpy']).status !== 0)
    throw new FourierFTError(
      'UNSUPPORTED',
      'the benchmark needs a Python with NumPy; set FOURIERFT_PYTHON to its path',
    )
  const library = compileKernel()
  const width = runLength === 'full' ? 768 : 256
  const sizeOf = (tokens: number): Size => ({
    width,
    tokens,
    branches: tokens === SMALL ? 48 : 12,
    repeats: runLength === 'full' ? (tokens === SMALL ? 12 : 4) : 1,
  })
  const alone = (size: Size): number => {
    const flags = Object.entries(size).flatMap(([name, value]) => [`--${name}`, String(value)])
    const { stdout, stderr, status } = spawnSync(python, [SCRIPT, library, ...flags], { encoding: 'utf8' })
    if (status !== 0) throw new Error(`python/kernel_steps.py failed: ${stderr}`)
    return (JSON.parse(stdout) as Cost).milliseconds
  }
  const inside = (size: Size) => inFreshProcess<Cost>(import.meta.url, ...Object.values(size)).milliseconds
  const times = { inside: new Map<number, number[]>(), alone: new Map<number, number[]>() }
  for (let round = 0; round < ROUNDS[runLength]; round++)
    for (const tokens of [SMALL, LARGE]) {
      for (const [name, measure] of Object.entries({ inside, alone }) as [
        'inside' | 'alone',
        typeof alone,
      ][]) {
        const list = times[name].get(tokens) ?? []
        list.push(measure(sizeOf(tokens)))
        times[name].set(tokens, list)
      }
    }
  const goal = (limit: number) => (runLength === 'full' ? limit : undefined)
  const of = (name: 'inside' | 'alone', tokens: number) => times[name].get(tokens) as number[]
  printSection(
    'A branch, forward and backward',
    `FourierFT and FourierFTGrad in ONNX Runtime, as a multiple of the kernel by itself; ${width} × ${width}, n = ${N}`,
  )
  for (const tokens of [SMALL, LARGE])
    console.log(
      `  ${`T = ${tokens}`.padEnd(30)}${formatWithGoal(of('inside', tokens), of('alone', tokens), goal(1.15))}`,
    )
  printSection('The cost of a token', `T = ${LARGE} as a multiple of T = ${SMALL}`)
  const perToken = (name: 'inside' | 'alone') =>
    formatWithGoal(
      of(name, LARGE).map((time) => time / LARGE),
      of(name, SMALL).map((time) => time / SMALL),
      name === 'alone' ? goal(1.2) : undefined,
    )
  console.log(`  ${'the kernel by itself'.padEnd(30)}${perToken('alone')}`)
  console.log(`  ${'in ONNX Runtime'.padEnd(30)}${perToken('inside')}`)
}

async function measureInside({ width, tokens, branches, repeats }: Size): Promise<Cost> {
  // A session of the package loads the kernel, which the backend then offers to plain sessions.
  await (await createSession(servingModel({ d: 8, layers: 1 }, 'frozen'), { native: true })).release()
  registerFourierFTBackend(ort)
  const session = await ort.InferenceSession.create(branchesModel({ d: width, layers: branches }, N, true), {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    executionProviders: [{ name: DOMAIN }],
  })
  const activations = () => new ort.Tensor('float32', noise(tokens * width), [tokens, width])
  const feeds = {
    x: activations(),
    z: activations(),
    g: activations(),
    c: new ort.Tensor('float32', noise(N), [1, N]),
    rows: new ort.Tensor('int64', BigInt64Array.of(0n), [1]),
  }
  for (let i = 0; i < 2; i++) await session.run(feeds)
  const start = processorTime()
  for (let i = 0; i < repeats; i++) await session.run(feeds)
  return { milliseconds: (processorTime() - start) / repeats / branches }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [width, tokens, branches, repeats] = process.argv.slice(2).map(Number)
  console.log(JSON.stringify(await measureInside({ width, tokens, branches, repeats })))
}

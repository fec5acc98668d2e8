/**
 * Measures the memory of a hundred adapters of one model, and the memory and time of a session up to the end of its first run. Each case runs in a
 * fresh process with this file as its program.
 */
import { fileURLToPath } from 'node:url'
import { createSession } from '@fourierft/onnxruntime'
import * as ort from 'onnxruntime-node'
import { type Costs, inFreshProcess, measureCosts } from './fresh-process.js'
import { moduleOf, noise, servingModel } from './layer-chain.js'
import { formatRatio, median, printSection, type RunLength, ratio } from './measure.js'
import { randomAdapter } from './random-adapter.js'
import { encoderAdapter, encoderFeeds } from './sentence-encoder.js'

const ONE_THREAD = { intraOpNumThreads: 1, interOpNumThreads: 1 }
const MIB = 2 ** 20
/** The query and value layers of BERT base: two in each of twelve blocks. */
const BERT = { d: 768, layers: 24 }
const N = 1000

const START_UPS = ['plain', 'portable', 'native'] as const
type StartUp = (typeof START_UPS)[number]

/** The memory that is in use after loading, in bytes. */
interface MemoryInUse {
  /** JavaScript's memory: the heap and external memory. */
  readonly heap: number
  /** The resident memory of the process, which includes memory that the allocators keep. */
  readonly resident: number
}

export function printAdapterMemory(runLength: RunLength, kernels: readonly ('native' | 'portable')[]): void {
  const count = runLength === 'quick' ? 20 : 100
  const goal = (12 * count) / 100
  printSection(
    `Memory of ${count} adapters`,
    `query and value of twelve layers of 768×768, n = ${N}: how much more memory a session uses after it has run with each of them`,
  )
  const bytes = ((count * BERT.layers * N * 4) / MIB).toFixed(1)
  for (const kernel of kernels) {
    const found = Array.from({ length: runLength === 'quick' ? 1 : 3 }, () =>
      inFreshProcess<MemoryInUse>(import.meta.url, 'adapters', kernel, count),
    )
    const [heap, resident] = (['heap', 'resident'] as const).map(
      (kind) => median(found.map((memory) => memory[kind])) / MIB,
    )
    console.log(
      `  ${kernel.padEnd(30)}JavaScript's memory ${heap.toFixed(1)} MiB (goal ${goal}: ${heap <= goal ? 'met' : 'missed'})   ` +
        `resident memory ${resident.toFixed(1)} MiB   the coefficients are ${bytes} MiB`,
    )
  }
}

/** @param model the path of a sentence encoder */
export function printStartUp(runLength: RunLength, model: string, hasNative: boolean): void {
  printSection(
    'Start-up of the whole model',
    'from createSession() with an adapter to the end of the first run, as multiples of a plain session; processor time, peak memory',
  )
  const names = START_UPS.filter((name) => name !== 'native' || hasNative)
  const rounds = Array.from({ length: runLength === 'quick' ? 1 : 5 }, () =>
    names.map((name) => inFreshProcess<Costs>(import.meta.url, 'start', name, model)),
  )
  const costsOf = (index: number, cost: keyof Costs) => rounds.map((round) => round[index][cost])
  for (const [i, name] of names.entries())
    if (i > 0)
      console.log(
        `  ${name.padEnd(30)}time ${formatRatio(ratio(costsOf(i, 'milliseconds'), costsOf(0, 'milliseconds')))}   ` +
          `peak ${formatRatio(ratio(costsOf(i, 'peak'), costsOf(0, 'peak')))} (plain: ${(median(costsOf(0, 'peak')) / MIB).toFixed(0)} MiB)`,
      )
}

async function measureAdapterMemory(native: boolean, count: number): Promise<MemoryInUse> {
  const modules = Array.from({ length: BERT.layers }, (_, i) => moduleOf(i))
  const shapes = Object.fromEntries(modules.map((module) => [module, [BERT.d, BERT.d] as const]))
  const session = await createSession(servingModel(BERT, 'frozen'), { ...ONE_THREAD, native })
  const x = new ort.Tensor('float32', noise(BERT.d), [1, BERT.d])
  const load = async (start: number, end: number) => {
    for (let i = start; i < end; i++) {
      const name = `adapter${i}`
      // Load from bytes, as from a file.
      const { config, model } = randomAdapter(shapes, N, i).toBytes()
      await session.loadAdapter({ config, model }, { name })
      session.setAdapter(name)
      await session.run({ x })
    }
  }
  const memoryInUse = async () => {
    for (let i = 0; i < 4; i++) {
      await new Promise((done) => setTimeout(done, 20))
      global.gc?.()
    }
    const { heapUsed, external, rss } = process.memoryUsage()
    return { heap: heapUsed + external, resident: rss }
  }
  await load(0, 5)
  const before = await memoryInUse()
  await load(5, count + 5)
  const after = await memoryInUse()
  await session.release()
  return { heap: after.heap - before.heap, resident: after.resident - before.resident }
}

async function measureStartUp(name: StartUp, path: string): Promise<Costs> {
  const adapter = encoderAdapter(path)
  const feeds = encoderFeeds(1, 16)
  const { costs, result } = await measureCosts(async () => {
    const session =
      name === 'plain'
        ? await ort.InferenceSession.create(path, ONE_THREAD)
        : await createSession(path, { ...ONE_THREAD, native: name === 'native', adapters: adapter })
    await session.run(feeds)
    return session
  })
  await result.release()
  return costs
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [what, first, second] = process.argv.slice(2)
  const result =
    what === 'start'
      ? await measureStartUp(first as StartUp, second)
      : await measureAdapterMemory(first === 'native', Number(second))
  console.log(JSON.stringify(result))
}

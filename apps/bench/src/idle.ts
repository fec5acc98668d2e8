/**
 * Measures what a model with an adapter costs while no adapter is active: a sentence encoder with a short text, and greedy generation. Each session
 * runs in a fresh process with this file as its program, because the times of two sessions in one process depend on the addresses of their
 * weights.
 */
import { fileURLToPath } from 'node:url'
import { createSession } from '@fourierft/onnxruntime'
import { attach } from '@fourierft/transformers'
import { env, LogLevel, pipeline } from '@huggingface/transformers'
import * as ort from 'onnxruntime-node'
import { inFreshProcess } from './fresh-process.js'
import { servingModel } from './layer-chain.js'
import { formatWithGoal, median, printSection, type RunLength } from './measure.js'
import { ModelFolders, moduleNamesIn, text, trainedAdapter } from './model-folders.js'
import { encoderFeeds, findEncoder } from './sentence-encoder.js'

const ONE_THREAD = { intraOpNumThreads: 1, interOpNumThreads: 1 }
const GOAL = 1.02
const ROUNDS = 5
const CASES = ['plain', 'repeat', 'native', 'portable'] as const
type Name = (typeof CASES)[number]

/** A decoder, and the number of tokens that it generates. */
const DECODER = { layers: 6, width: 768, heads: 12, vocabulary: 16_000, positions: 1024 }
const QUICK_DECODER = { layers: 2, width: 64, heads: 4, vocabulary: 6000, positions: 256 }
const GENERATED = 64
/** The name of the mean-pooled embeddings in the file of the sentence encoder. */
const EMBEDDING = '461'

export async function benchmarkIdle(runLength: RunLength): Promise<void> {
  const session = await createSession(servingModel({ d: 8, layers: 1 }, 'frozen'))
  const hasNative = session.usesNativeKernel
  await session.release()
  const names = CASES.filter((name) => name !== 'native' || hasNative)
  printSection(
    'idle',
    'a call with a loaded adapter that is not active, as a multiple of the plain model; one thread, processor time, fresh processes. repeat: a second plain model',
  )
  const encoder = findEncoder()
  if (encoder === undefined)
    console.log('  without a real encoder: fetch it with node packages/onnxruntime/scripts/minilm.js')
  else printIdle('MiniLM, 18 layers, 8 tokens', runLength, names, ['encoder', encoder])
  const folders = new ModelFolders()
  try {
    const decoder = folders.decoder('decoder', runLength === 'quick' ? QUICK_DECODER : DECODER)
    const title = `generation, ${GENERATED} tokens, query and value`
    printIdle(title, runLength, names, ['decoder', folders.root, decoder.name, decoder.adapterPath])
  } finally {
    folders.remove()
  }
}

function printIdle(
  title: string,
  runLength: RunLength,
  names: readonly Name[],
  model: readonly string[],
): void {
  const rounds = Array.from({ length: runLength === 'quick' ? 1 : ROUNDS }, () =>
    names.map((name) => inFreshProcess<number>(import.meta.url, name, runLength, ...model)),
  )
  const timesOf = (index: number) => rounds.map((round) => round[index])
  const columns = names
    .slice(1)
    .map(
      (name, i) =>
        `${name} ${formatWithGoal(timesOf(i + 1), timesOf(0), runLength === 'full' && name !== 'repeat' ? GOAL : undefined)}`,
    )
  console.log(`  ${title.padEnd(44)}${columns.join('   ')}   (plain: ${median(timesOf(0)).toFixed(2)} ms)`)
}

/** The call of an encoder whose trained adapter, on all eighteen layers, is not active. */
async function encoderCall(name: Name, path: string): Promise<() => Promise<unknown>> {
  const feeds = encoderFeeds(1, 8)
  if (isPlain(name)) {
    const session = await ort.InferenceSession.create(path, ONE_THREAD)
    return () => session.run(feeds, [EMBEDDING])
  }
  const adapter = await trainedAdapter()
  const session = await createSession(path, {
    ...ONE_THREAD,
    native: name === 'native',
    adapters: adapter,
    moduleNames: moduleNamesIn(path, adapter),
  })
  session.disableAdapters()
  return () => session.run(feeds, [EMBEDDING])
}

async function decoderCall(
  name: Name,
  [root, folder, adapterPath]: readonly string[],
): Promise<() => Promise<unknown>> {
  env.localModelPath = root
  env.allowRemoteModels = false
  env.logLevel = LogLevel.ERROR
  const options = { dtype: 'fp32', device: 'cpu', session_options: ONE_THREAD } as const
  const generate = await pipeline('text-generation', folder, options)
  if (!isPlain(name)) {
    const adapters = await attach(generate, { native: name === 'native' })
    await adapters.loadAdapter(adapterPath)
    adapters.disableAdapters()
  }
  const generation = { do_sample: false, min_new_tokens: GENERATED, max_new_tokens: GENERATED }
  return () => generate([text(16)], generation)
}

const isPlain = (name: Name) => name === 'plain' || name === 'repeat'

/** @returns the milliseconds of one call: the median of blocks of calls, after the first blocks */
async function measureCall(call: () => Promise<unknown>, runLength: RunLength): Promise<number> {
  const block = async (calls: number) => {
    const start = process.cpuUsage()
    for (let i = 0; i < calls; i++) await call()
    const { user, system } = process.cpuUsage(start)
    return (user + system) / 1000 / calls
  }
  const isQuick = runLength === 'quick'
  await block(1)
  const duration = await block(1)
  const calls = Math.max(1, Math.round((isQuick ? 1 : 30) / duration))
  const count = isQuick ? 2 : Math.min(30, Math.max(4, Math.round(3000 / (calls * duration))))
  const blocks: number[] = []
  for (let i = 0; i < count; i++) blocks.push(await block(calls))
  // V8 compiles the code of short calls during the first hundreds of them.
  return median(blocks.slice(count / 3))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [name, runLength, kind, ...model] = process.argv.slice(2) as [Name, RunLength, string, ...string[]]
  const call = kind === 'encoder' ? await encoderCall(name, model[0]) : await decoderCall(name, model)
  console.log(JSON.stringify(await measureCall(call, runLength)))
  process.exit()
}

/**
 * Measures `@fourierft/transformers` in Node: pipelines of transformers.js with adapters, with the native kernel and the portable function, the plain
 * pipeline and the merged model. All cases run on one thread and are measured in processor time. Memory pages have the size that users have, unlike
 * in `onnxruntime.ts`.
 */
import { createRequire } from 'node:module'
import type { Adapter } from '@fourierft/core'
import { createSession } from '@fourierft/onnxruntime'
import { attach } from '@fourierft/transformers'
import { env, LogLevel, pipeline } from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-node'
import { servingModel } from './layer-chain.js'
import { type Clock, printRatios, printSection, type RunLength } from './measure.js'
import { ModelFolders, text, trainedAdapter } from './model-folders.js'
import { findEncoder } from './sentence-encoder.js'
import { printStartUp } from './transformers-start-up.js'

const CLOCK: Clock = 'processor'
const LOADED = {
  dtype: 'fp32',
  device: 'cpu',
  session_options: { intraOpNumThreads: 1, interOpNumThreads: 1 },
} as const
const TOKENS = 64

const GPT2 = { layers: 6, width: 768, heads: 12, vocabulary: 16_000, positions: 1024 }
const BERT = { layers: 12, width: 768, heads: 12, vocabulary: 30_522, positions: 512 }
const QUICK = { layers: 2, width: 64, heads: 4, vocabulary: 6000, positions: 256 }

/** A pipeline with its adapters and inputs. */
interface MeasuredPipeline {
  readonly task: 'feature-extraction' | 'text-generation'
  readonly folder: string
  /** One adapter for each row of a mixed batch; the first one is active. */
  readonly adapters: readonly Adapter[]
  readonly moduleNames?: Readonly<Record<string, string>>
  /** Batches of texts by their titles. Batches of several rows are also measured with an adapter for each row. */
  readonly batches: Readonly<Record<string, readonly string[]>>
}

export async function benchmarkTransformers(runLength: RunLength): Promise<void> {
  const kernels = (await hasNativeKernel()) ? (['native', 'portable'] as const) : (['portable'] as const)
  console.log(`\ntransformers\ntransformers.js ${env.version}, float32, one thread`)
  const folders = new ModelFolders()
  env.localModelPath = folders.root
  env.allowRemoteModels = false
  env.logLevel = LogLevel.ERROR
  try {
    const path = findEncoder()
    const minilm = path === undefined ? undefined : folders.minilm(path)
    if (minilm) {
      const trained = await trainedAdapter()
      const batches = textBatches(runLength)
      const adapters = Array.from({ length: runLength === 'quick' ? 2 : 16 }, (_, i) => minilm.adapter(i))
      const measured: MeasuredPipeline = {
        task: 'feature-extraction',
        folder: minilm.name,
        adapters,
        batches,
      }
      await printCalls(runLength, 'MiniLM: query and value', measured, kernels)
      await printCalls(
        runLength,
        'MiniLM: the adapter that PEFT trained, all eighteen layers',
        { ...measured, adapters: [trained], moduleNames: minilm.moduleNames(trained) },
        kernels,
      )
      await printSwitching(runLength, measured, kernels)
    } else console.log('\nwithout a real encoder: fetch it with node packages/onnxruntime/scripts/minilm.js')
    const decoder = folders.decoder('decoder', runLength === 'quick' ? QUICK : GPT2)
    const toy = folders.toy()
    const generating = { task: 'text-generation', batches: { [`${TOKENS} tokens`]: [text(16)] } } as const
    await printCalls(
      runLength,
      'Greedy generation: a decoder with random weights, query and value',
      { ...generating, folder: decoder.name, adapters: [decoder.adapter(1)] },
      kernels,
    )
    await printCalls(
      runLength,
      'Greedy generation: the toy GPT-2 of the tests (two layers of width 32), c_attn and c_fc',
      {
        ...generating,
        batches: { [`${TOKENS} tokens`]: ['a'] },
        folder: toy.name,
        adapters: [await toy.adapter()],
      },
      kernels,
    )
    const encoder = folders.encoder('encoder', runLength === 'quick' ? QUICK : BERT)
    printStartUp(
      runLength,
      folders.root,
      { ...(minilm && { MiniLM: minilm }), 'BERT-base-sized': encoder },
      kernels,
    )
  } finally {
    folders.remove()
  }
}

/** Returns whether the native kernel is available. Otherwise the package prints the reason. */
async function hasNativeKernel(): Promise<boolean> {
  const session = await createSession(servingModel({ d: 8, layers: 1 }, 'frozen'))
  await session.release()
  return session.usesNativeKernel
}

function textBatches(runLength: RunLength): MeasuredPipeline['batches'] {
  const rows = runLength === 'quick' ? 2 : 16
  const batch = (rows: number, words: number) => Array.from({ length: rows }, (_, i) => text(words, i))
  return {
    '1 × 8 tokens': batch(1, 8),
    [`${rows} × 8 tokens`]: batch(rows, 8),
    ...(runLength === 'full' && { '1 × 128 tokens': batch(1, 128), '16 × 128 tokens': batch(16, 128) }),
  }
}

type Kernels = readonly ('native' | 'portable')[]

/** @param kernels the available ways to compute branches */
async function printCalls(
  runLength: RunLength,
  title: string,
  measured: MeasuredPipeline,
  kernels: Kernels,
): Promise<void> {
  printSection(
    title,
    'a call, as a multiple of the plain pipeline. repeat: a second plain pipeline; inactive: attached, adapters disabled; merged: mergeAdapter()',
  )
  const { adapters, batches } = measured
  const [plain, repeat] = [await load(measured), await load(measured)]
  const attached = await Promise.all(
    kernels.map(async (kernel) => ({ kernel, ...(await loadAttached(measured, kernel)) })),
  )
  const merged = await loadAttached(measured, kernels[0])
  await merged.adapterSet.mergeAdapter()
  const goal = runLength === 'full' ? 1.05 : undefined
  for (const [name, texts] of Object.entries(batches))
    await printRatios(
      name,
      [
        { name: 'plain', run: () => plain.call(texts) },
        { name: 'repeat', run: () => repeat.call(texts) },
        ...attached.flatMap(({ kernel, adapterSet, call }) => [
          {
            name: `inactive, ${kernel}`,
            run: () => {
              adapterSet.disableAdapters()
              return call(texts)
            },
            goal,
          },
          {
            name: kernel,
            run: () => {
              adapterSet.enableAdapters()
              return call(texts)
            },
          },
          ...(texts.length > 1 && texts.length === adapters.length
            ? [
                {
                  name: `${texts.length} adapters, ${kernel}`,
                  run: () => {
                    adapterSet.enableAdapters()
                    return adapterSet.withAdapterPerRow(adapterSet.listAdapters(), () => call(texts))
                  },
                },
              ]
            : []),
        ]),
        { name: 'merged', run: () => merged.call(texts), goal },
      ],
      runLength,
      CLOCK,
      kernels.map((kernel) => ({
        name: `${texts.length} adapters, ${kernel}`,
        baseline: kernel,
        ...(runLength === 'full' && kernel === 'native' && { goal: 1.15 }),
      })),
    )
  for (const { dispose } of [plain, repeat, merged, ...attached]) await dispose()
}

async function printSwitching(
  runLength: RunLength,
  measured: MeasuredPipeline,
  kernels: Kernels,
): Promise<void> {
  printSection(
    'Switching the adapter',
    'setAdapter() and a call, as a multiple of a call with the same adapter; goal: cheaper than two calls, no new session',
  )
  const [[name, texts]] = Object.entries(measured.batches)
  for (const kernel of kernels) {
    const { adapterSet, call, dispose } = await loadAttached(measured, kernel)
    const [a, b] = adapterSet.listAdapters()
    let turn = 0
    const sessionCount = await countSessions(() =>
      printRatios(
        `${name}, ${kernel}`,
        [
          { name: 'same', run: () => call(texts) },
          {
            name: 'switched',
            run: () => {
              adapterSet.setAdapter(turn++ % 2 === 0 ? b : a)
              return call(texts)
            },
            goal: 2,
          },
        ],
        runLength,
        CLOCK,
      ),
    )
    console.log(`  ${''.padEnd(30)}new sessions: ${sessionCount}`)
    await dispose()
  }
}

/** Counts the sessions that the ONNX Runtime of transformers.js creates during `run`. */
async function countSessions(run: () => Promise<void>): Promise<number> {
  const require = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'))
  const ort: { InferenceSession: typeof InferenceSession } = require('onnxruntime-node')
  const { create } = ort.InferenceSession
  let sessionCount = 0
  const counting = (...args: Parameters<typeof create>) => {
    sessionCount++
    return Reflect.apply(create, ort.InferenceSession, args)
  }
  Object.assign(ort.InferenceSession, { create: counting })
  await run().finally(() => Object.assign(ort.InferenceSession, { create }))
  return sessionCount
}

async function load({ task, folder }: MeasuredPipeline) {
  if (task === 'feature-extraction') {
    const target = await pipeline(task, folder, LOADED)
    return callable(target, async (texts) => {
      await target([...texts])
    })
  }
  const target = await pipeline(task, folder, LOADED)
  const generation = { do_sample: false, min_new_tokens: TOKENS, max_new_tokens: TOKENS }
  return callable(target, async (texts) => {
    await target([...texts], generation)
  })
}

function callable<Target extends { dispose(): Promise<void> }>(
  target: Target,
  call: (texts: readonly string[]) => Promise<void>,
) {
  return { target, call, dispose: () => target.dispose() }
}

async function loadAttached(measured: MeasuredPipeline, kernel: 'native' | 'portable') {
  const { target, call, dispose } = await load(measured)
  const { moduleNames = {} } = measured
  const adapterSet = await attach(target, { native: kernel === 'native', moduleNames })
  for (const [i, adapter] of measured.adapters.entries())
    await adapterSet.loadAdapter(adapter, { name: `adapter${i}` })
  return { adapterSet, call, dispose }
}

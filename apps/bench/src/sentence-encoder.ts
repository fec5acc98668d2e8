/**
 * Measures a whole model: the sentence encoder paraphrase-MiniLM-L3-v2 (17 million parameters, three layers of width 384) with an adapter on query
 * and value.
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Adapter } from '@fourierft/core'
import { bakeBranches, findLinearLayers, matchLayers, readModel } from '@fourierft/onnx'
import { type AdaptedSession, createSession } from '@fourierft/onnxruntime'
import * as ort from 'onnxruntime-node'
import { type Case, type Clock, printRatios, printSection, type RunLength } from './measure.js'
import { randomAdapter } from './random-adapter.js'

const N = 1000
const ONE_THREAD = { intraOpNumThreads: 1, interOpNumThreads: 1 }
/** The name of the mean-pooled embeddings in the file. */
const EMBEDDING = '461'

/** Returns the path of the model file; undefined if it has not been fetched. */
export function findEncoder(): string | undefined {
  const path = fileURLToPath(new URL('../../../.cache/minilm-0.2.1/model.onnx', import.meta.url))
  return existsSync(path) ? path : undefined
}

export function encoderAdapter(path: string): Adapter {
  const layers = findLinearLayers(readModel(readFileSync(path))).filter(({ module }) =>
    /\.(query|value)$/.test(module ?? ''),
  )
  const shapes = Object.fromEntries(
    layers.map(({ module, outFeatures, inFeatures }) => [module, [outFeatures, inFeatures] as const]),
  )
  return randomAdapter(shapes, N, 1)
}

export function encoderFeeds(rows: number, tokens: number): Record<string, ort.Tensor> {
  const ids = BigInt64Array.from({ length: rows * tokens }, (_, i) => BigInt(1000 + ((i * 7919) % 20000)))
  const mask = new BigInt64Array(rows * tokens).fill(1n)
  return {
    input_ids: new ort.Tensor('int64', ids, [rows, tokens]),
    attention_mask: new ort.Tensor('int64', mask, [rows, tokens]),
  }
}

export async function wholeModel(
  runLength: RunLength,
  path: string,
  hasNative: boolean,
  clock: Clock,
): Promise<void> {
  printSection(
    'A whole model',
    `paraphrase-MiniLM-L3-v2, query and value, n = ${N}; as multiples of the plain session. inactive: attached, adapters disabled`,
  )
  const adapter = encoderAdapter(path)
  const plain = await ort.InferenceSession.create(path, ONE_THREAD)
  const baked = await ort.InferenceSession.create(await merged(path, adapter), ONE_THREAD)
  const portable = await createSession(path, { ...ONE_THREAD, native: false, adapters: adapter })
  const native = hasNative
    ? await createSession(path, { ...ONE_THREAD, native: true, adapters: adapter })
    : undefined
  const sizes =
    runLength === 'quick'
      ? [[1, 8]]
      : [
          [1, 16],
          [1, 128],
          [16, 64],
        ]
  for (const [rows, tokens] of sizes) {
    const feeds = encoderFeeds(rows, tokens)
    await printRatios(
      `${rows} × ${tokens} tokens`,
      [
        encoding('plain', plain, feeds),
        ...(native
          ? [withAdapter('inactive', native, feeds, false), withAdapter('native', native, feeds, true)]
          : []),
        withAdapter('inactive, portable', portable, feeds, false),
        withAdapter('portable', portable, feeds, true),
        encoding('merged', baked, feeds),
      ],
      runLength,
      clock,
    )
  }
  for (const session of [plain, baked, portable, native]) await session?.release()
}

/** Measures runs that switch between two adapters. */
export async function switching(
  runLength: RunLength,
  path: string,
  hasNative: boolean,
  clock: Clock,
): Promise<void> {
  printSection(
    'Switching the adapter',
    'setAdapter() and a run of the whole model, as a multiple of a run with the same adapter; goal: cheaper than two runs, no new session',
  )
  const adapters = { a: encoderAdapter(path), b: encoderAdapter(path) }
  for (const native of hasNative ? [true, false] : [false]) {
    let sessionCount = 0
    const counted = {
      ...ort,
      InferenceSession: {
        ...ort.InferenceSession,
        create: (...args: Parameters<typeof ort.InferenceSession.create>) => {
          sessionCount++
          return ort.InferenceSession.create(...args)
        },
      },
    } as typeof ort
    const session = await createSession(path, { ...ONE_THREAD, native, adapters, ort: counted })
    const initialCount = sessionCount
    const feeds = encoderFeeds(1, 16)
    let turn = 0
    await printRatios(
      native ? 'native' : 'portable',
      [
        encoding('same', session, feeds),
        {
          name: 'switched',
          run: async () => {
            session.setAdapter(turn++ % 2 === 0 ? 'b' : 'a')
            await session.run(feeds, [EMBEDDING])
          },
          goal: 2,
        },
      ],
      runLength,
      clock,
    )
    console.log(`  ${''.padEnd(30)}new sessions: ${sessionCount - initialCount}`)
    await session.release()
  }
}

function encoding(
  name: string,
  session: ort.InferenceSession | AdaptedSession,
  feeds: Record<string, ort.Tensor>,
): Case {
  return {
    name,
    run: async () => {
      await session.run(feeds, [EMBEDDING])
    },
  }
}

function withAdapter(
  name: string,
  session: AdaptedSession,
  feeds: Record<string, ort.Tensor>,
  active: boolean,
): Case {
  const { run } = encoding(name, session, feeds)
  return {
    name,
    run: () => {
      if (active) session.enableAdapters()
      else session.disableAdapters()
      return run()
    },
  }
}

async function merged(path: string, adapter: Adapter): Promise<Uint8Array> {
  const model = readModel(readFileSync(path), { file: path })
  const layers = adapter.layers()
  const { matched } = matchLayers(
    findLinearLayers(model),
    layers.map(({ name }) => name),
  )
  await bakeBranches(
    model,
    layers.map((layer) => ({
      layer: matched.get(layer.name) as NonNullable<ReturnType<typeof matched.get>>,
      adapters: [layer],
    })),
  )
  return model.toBytes()
}

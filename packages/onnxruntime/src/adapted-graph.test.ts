/** The feeds that a graph makes from the adapters of a call. */
import { type Choice, createAdapter, createConfig, uniformEntries } from '@fourierft/core'
import * as ort from 'onnxruntime-node'
import * as web from 'onnxruntime-web'
import { expect, test } from 'vitest'
import { SHAPES, twoLayers } from './__fixtures__/two-layers.js'
import { AdaptedGraph } from './adapted-graph.js'
import type { Ort } from './ort.js'
import type { SessionAdapter } from './session-adapter.js'

const MODULE = 'block.first'
const SHAPE = SHAPES[MODULE]
const N = 24

function matchedAdapter(seed: number, randomLocSeed: number): SessionAdapter {
  const config = createConfig({
    nFrequency: N,
    scaling: 2,
    randomLocSeed,
    initWeights: false,
    targetModules: [MODULE],
  })
  const adapter = createAdapter(config, { [MODULE]: SHAPE }, { initialSeed: seed })
  return {
    name: `adapter ${seed}`,
    source: adapter,
    layers: new Map([[MODULE, adapter.layer(MODULE)]]),
    replacedModules: new Map(),
    replaces: new Map(),
  }
}

const [a, b, otherEntries] = [matchedAdapter(1, 777), matchedAdapter(2, 777), matchedAdapter(3, 778)]
const scaled = (adapter: SessionAdapter, scale = 1) => ({ adapter, scale })
const inputs = {
  rows: 'rows',
  batchAxes: new Map([['x', 0]]),
  rowless: new Map(),
  coefficients: new Map([[MODULE, 'c']]),
  weights: new Map(),
  joined: undefined,
}

async function graphIn(runtime: Ort): Promise<AdaptedGraph> {
  const session = await ort.InferenceSession.create(twoLayers())
  const branches = new Map([
    [MODULE, { module: MODULE, entries: uniformEntries({ shape: SHAPE, n: N, seed: 777 }) }],
  ])
  return new AdaptedGraph(session, runtime, { branches, replaceable: new Map() }, inputs)
}

const coefficientsOf = ({ layers }: SessionAdapter) =>
  Array.from(layers.get(MODULE)?.coefficients ?? [], (c) => Math.fround(2 * c))

function feedsOf(graph: AdaptedGraph, choice: Choice<SessionAdapter>): { c: number[]; rows: number[] } {
  const { c, rows } = graph.feedsFor(choice)
  return {
    c: Array.from((c?.data ?? []) as Float32Array),
    rows: Array.from((rows?.data ?? []) as BigInt64Array, Number),
  }
}

test('reuses the tensors if a run repeats the adapters of the last run, and otherwise makes new tensors', async () => {
  const graph = await graphIn(ort)
  expect(graph.feedsFor({ added: [scaled(a)] }).c).toBe(graph.feedsFor({ added: [scaled(a)] }).c)
  const [ca, cb] = [coefficientsOf(a), coefficientsOf(b)]
  const none = new Array<number>(N).fill(0)
  expect(feedsOf(graph, { added: [scaled(a)] })).toEqual({ c: ca, rows: [0] })
  expect(feedsOf(graph, { added: [scaled(b)] })).toEqual({ c: cb, rows: [0] })
  expect(feedsOf(graph, { perRow: [scaled(b)] })).toEqual({ c: cb, rows: [0] })
  expect(feedsOf(graph, { perRow: [scaled(b), scaled(a)] })).toEqual({ c: [...cb, ...ca], rows: [0, 1] })
  expect(feedsOf(graph, { added: [scaled(b), scaled(a)] })).toEqual({
    c: ca.map((c, l) => Math.fround(c + cb[l])),
    rows: [0],
  })
  expect(feedsOf(graph, { perRow: [scaled(b), null] })).toEqual({ c: [...cb, ...none], rows: [0, -1] })
  expect(feedsOf(graph, { added: [] })).toEqual({ c: [], rows: [0] })
  // Coefficients are multiplied by the scale.
  const half = cb.map((c) => Math.fround(c / 2))
  expect(feedsOf(graph, { added: [scaled(b, 0.5)] })).toEqual({ c: half, rows: [0] })
  expect(feedsOf(graph, { perRow: [scaled(b, 0.5), scaled(a), scaled(b), scaled(b, 0.5)] })).toEqual({
    c: [...half, ...ca, ...cb],
    rows: [0, 1, 2, 0],
  })
  expect(() => graph.feedsFor({ added: [scaled(a, 1e300)] })).toThrow(
    expect.objectContaining({ code: 'NOT_FINITE', message: expect.stringContaining(MODULE) }),
  )
  // The sum above did not overwrite the adapter's coefficients.
  expect(feedsOf(graph, { added: [scaled(a)] }).c).toEqual(ca)
  await graph.release()
})

test('makes new tensors for every run on the web, where a worker can take their memory', async () => {
  const graph = await graphIn(web)
  const first = graph.feedsFor({ added: [scaled(a)] }).c?.data as Float32Array
  structuredClone(first.buffer, { transfer: [first.buffer as ArrayBuffer] })
  expect(first.length).toBe(0)
  expect(feedsOf(graph, { added: [scaled(a)] }).c).toEqual(coefficientsOf(a))
  await graph.release()
})

test('cannot apply an adapter with other entries', async () => {
  const graph = await graphIn(ort)
  expect([a, b, otherEntries].map((adapter) => graph.serves(adapter))).toEqual([true, true, false])
  await graph.release()
})

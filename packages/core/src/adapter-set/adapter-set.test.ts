/** Tests random sequences of methods against a simple model of the state, which has no queue, host or counter; and single cases. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Adapter } from '../adapter/adapter.js'
import { createConfig } from '../adapter/config.js'
import { createAdapter } from '../adapter/create-adapter.js'
import { FourierFTError, invalidState } from '../errors.js'
import { AdapterSet } from './adapter-set.js'
import type { Applied, Choice, RowAdapter } from './choice.js'
import type { AdapterHost, CallState, MatchedAdapter } from './host.js'

const SOURCE = createAdapter(createConfig({ nFrequency: 1, targetModules: ['m'] }), { m: [2, 2] })

interface TestAdapter extends MatchedAdapter {
  readonly name: string
  readonly source: Adapter
}

type Weights = { readonly text: string }

/** Delays the work of a host until the test opens the gate. */
class Gate {
  #waiting: (() => void)[] = []
  isOpen = true

  async pass(): Promise<void> {
    if (!this.isOpen) await new Promise<void>((done) => this.#waiting.push(done))
  }

  open(): void {
    this.isOpen = true
    for (const resume of this.#waiting.splice(0)) resume()
  }
}

/** Writes a choice as text: `a×1 + b×0.5`, `[a×1, –]`. */
function describeChoice(choice: Choice<TestAdapter>): string {
  const describeOne = (item: Applied<TestAdapter> | null) =>
    item ? `${item.adapter.name}×${item.scale}` : '–'
  return 'added' in choice
    ? choice.added.map(describeOne).join(' + ')
    : `[${choice.perRow.map(describeOne).join(', ')}]`
}

class Host implements AdapterHost<TestAdapter, Weights> {
  readonly gate = new Gate()
  readonly served = new Set<TestAdapter>()
  readonly discarded: Weights[] = []
  readonly forgotten: string[] = []
  readonly matched: string[] = []
  /** The state that a model would store, as text. */
  shown = ''
  merges = 0
  isBroken = false
  isClosed = false
  problem: string | undefined

  async match(name: string, source: Adapter): Promise<TestAdapter> {
    this.matched.push(name)
    return { name, source, replaces: new Map(name.startsWith('whole') ? [['head', 'head']] : []) }
  }

  serves(adapter: TestAdapter): boolean {
    return this.served.has(adapter)
  }

  async rebuild(adapters: readonly TestAdapter[]): Promise<void> {
    await this.gate.pass()
    if (this.isBroken) throw new Error('no memory')
    this.served.clear()
    for (const adapter of adapters) this.served.add(adapter)
  }

  async merge(added: readonly Applied<TestAdapter>[]): Promise<Weights> {
    await this.gate.pass()
    if (this.isBroken) throw new Error('no memory')
    this.merges++
    return { text: `merged ${describeChoice({ added })}` }
  }

  checkMerged(): void {
    if (this.problem !== undefined) throw invalidState(this.problem)
  }

  discard(merged: Weights): void {
    if (this.shown === merged.text) throw new Error('weights were freed while they were in effect')
    this.discarded.push(merged)
  }

  changed(state: CallState<TestAdapter, Weights>): void {
    this.shown = shownBy(state)
  }

  checkRows(rows: readonly (Applied<TestAdapter> | null)[]): void {
    const names = new Set(rows.map((row) => row?.adapter.name))
    if (names.has('batch-only') && names.size > 1)
      throw new FourierFTError('UNSUPPORTED', "adapter 'batch-only' cannot share a batch")
  }

  forget({ name }: TestAdapter): void {
    this.forgotten.push(name)
  }

  adapterOf({ source }: TestAdapter): Adapter {
    return source
  }

  checkLive(): void {
    if (this.isClosed) throw invalidState('the model was closed')
  }
}

function shownBy({ choice, merged }: CallState<TestAdapter, Weights>): string {
  const text = describeChoice(choice)
  if (merged === undefined) return text
  if (merged.text !== `merged ${text}`) throw new Error(`${merged.text}, but the call applies ${text}`)
  return merged.text
}

class TestSet extends AdapterSet<TestAdapter, Weights> {
  readonly #host: Host

  constructor(host: Host) {
    super(host)
    this.#host = host
  }

  call(rows?: readonly RowAdapter[]): string {
    const state = this.callState(rows)
    const { choice, merged } = state
    for (const each of 'added' in choice ? choice.added : choice.perRow)
      if (!merged && each && !this.#host.serves(each.adapter)) throw new Error('not in the session')
    return shownBy(state)
  }

  load(name: string): Promise<void> {
    return this.include(name, () => SOURCE)
  }

  loadFrom(name: string, source: Promise<Adapter>): Promise<void> {
    return this.include(name, () => source)
  }

  loadNow(name: string): void {
    this.includeNow(name, () => {
      const adapter = { name, source: SOURCE, replaces: new Map() }
      this.#host.served.add(adapter)
      return adapter
    })
  }

  trainWith<T>(work: () => Promise<T>, names?: string | readonly string[]): Promise<T> {
    return this.train(work, names)
  }

  exchangeBy(name: string, make: (old: Adapter) => Adapter | Promise<Adapter>): Promise<void> {
    return this.exchange(name, make)
  }

  editNow(name: string): void {
    this.edit(name, () => undefined)
  }

  unload(keep: 'base' | 'merged', work: (shown: string) => Promise<unknown> = async () => 0) {
    return this.leave(
      { keep, ended: { problem: 'unloaded', advice: 'load it again' } },
      ({ added, merged }) => work(merged?.text ?? describeChoice({ added })),
    )
  }

  end() {
    return this.finish({ problem: 'ended', advice: 'make another one' })
  }

  async ended(): Promise<void> {
    await this.idle()
  }
}

function createSet(): { host: Host; set: TestSet } {
  const host = new Host()
  return { host, set: new TestSet(host) }
}

function codeOf(error: unknown): string {
  return FourierFTError.isInstance(error) ? error.code : String(error)
}

/** Returns the code of the error that a method throws, or ''. */
function attempt(method: () => unknown): string {
  try {
    method()
    return ''
  } catch (error) {
    return codeOf(error)
  }
}

/** Returns the code of the error of a rejected promise, or ''. */
const settled = (promise: Promise<unknown>) =>
  promise.then(
    () => '',
    (error) => codeOf(error),
  )

/** Runs more microtasks than any method needs to reach the gate. */
async function runMicrotasks(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve()
}

const NAMES = ['a', 'b', 'whole1', 'whole2'] as const

type Method =
  | { readonly method: 'load' | 'delete' | 'edit'; readonly name: string }
  | { readonly method: 'set' | 'rows'; readonly names: readonly string[] }
  | { readonly method: 'scale'; readonly name: string; readonly scale: number }
  | { readonly method: 'disable' | 'enable' | 'unmerge' }
  | {
      readonly method: 'merge'
      readonly names: readonly string[] | undefined
      readonly during: readonly Method[]
    }

const name = fc.constantFrom(...NAMES)
const names = fc.array(name, { maxLength: 3 })
const simple: fc.Arbitrary<Method> = fc.oneof(
  fc.record({ method: fc.constantFrom('load' as const, 'delete' as const, 'edit' as const), name }),
  fc.record({ method: fc.constantFrom('set' as const, 'rows' as const), names }),
  fc.record({ method: fc.constant('scale' as const), name, scale: fc.constantFrom(0.5, 2) }),
  fc.record({ method: fc.constantFrom('disable' as const, 'enable' as const, 'unmerge' as const) }),
)
const methods: fc.Arbitrary<Method[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: simple },
    {
      weight: 1,
      arbitrary: fc.record({
        method: fc.constant('merge' as const),
        names: fc.option(names, { nil: undefined }),
        during: fc.array(simple, { maxLength: 2 }),
      }),
    },
  ),
  { maxLength: 14 },
)

/** The expected state: the simple model. Its methods return the code of the expected error, or ''. */
class Expected {
  scales = new Map<string, number>()
  active: string[] = []
  isEnabled = true
  merged: { readonly names: readonly string[]; readonly text: string } | undefined

  get shown(): string {
    if (this.merged) return this.merged.text
    return this.isEnabled ? this.describe(this.active) : ''
  }

  describe(names: readonly string[]): string {
    return names.map((name) => `${name}×${this.scales.get(name)}`).join(' + ')
  }

  problemOf(names: readonly string[]): string {
    if (names.some((name) => !this.scales.has(name))) return 'ADAPTER_NOT_FOUND'
    return new Set(names.filter((name) => name.startsWith('whole'))).size > 1 ? 'UNSUPPORTED' : ''
  }

  /** Runs any method except `merge`. */
  run(method: Exclude<Method, { method: 'merge' }>): string {
    if (method.method === 'load') {
      if (this.scales.has(method.name)) return 'ADAPTER_EXISTS'
      this.scales.set(method.name, 1)
      if (this.scales.size === 1) this.active = [method.name]
      return ''
    }
    if ('name' in method && !this.scales.has(method.name)) return 'ADAPTER_NOT_FOUND'
    if (method.method === 'edit') return this.merged ? 'INVALID_STATE' : ''
    if (method.method === 'scale') this.scales.set(method.name, method.scale)
    if (method.method === 'enable') this.isEnabled = true
    if (method.method === 'rows') {
      if (this.merged) return 'INVALID_STATE'
      if (method.names.length === 0) return 'INVALID_OPTION'
      if (method.names.some((name) => !this.scales.has(name))) return 'ADAPTER_NOT_FOUND'
      return ''
    }
    if (method.method === 'set') {
      const problem = this.problemOf(method.names)
      if (problem) return problem
      this.active = [...new Set(method.names)]
    }
    if (method.method === 'delete') {
      this.scales.delete(method.name)
      this.active = this.active.filter((name) => name !== method.name)
    }
    if (method.method === 'disable') this.isEnabled = false
    if (['set', 'delete', 'disable', 'unmerge'].includes(method.method)) this.merged = undefined
    return ''
  }

  merge(names: readonly string[] | undefined): string {
    const chosen = [...new Set(names ?? this.active)]
    if (this.merged || !this.isEnabled) return 'INVALID_STATE'
    if (chosen.some((name) => !this.scales.has(name))) return 'ADAPTER_NOT_FOUND'
    if (chosen.length === 0) return 'INVALID_STATE'
    const problem = this.problemOf(chosen)
    if (problem === '') this.merged = { names: chosen, text: `merged ${this.describe(chosen)}` }
    return problem
  }
}

/** Starts a method of the set. Returns the code of its error, or ''; for a load, a promise. */
function start(set: TestSet, method: Exclude<Method, { method: 'merge' }>): string | Promise<string> {
  switch (method.method) {
    case 'load':
      return settled(set.load(method.name))
    case 'delete':
      return attempt(() => set.deleteAdapter(method.name))
    case 'edit':
      return attempt(() => set.editNow(method.name))
    case 'set':
      return attempt(() => set.setAdapter(method.names))
    case 'scale':
      return attempt(() => set.setScale(method.name, method.scale))
    case 'disable':
      return attempt(() => set.disableAdapters())
    case 'enable':
      return attempt(() => set.enableAdapters())
    case 'unmerge':
      return attempt(() => set.unmergeAdapter())
    case 'rows':
      return attempt(() => {
        const outer = set.call()
        const inner = set.withAdapterPerRow(method.names, () => set.call())
        const expected = `[${method.names.map((name) => `${name}×${set.scaleOf(name)}`).join(', ')}]`
        expect([inner, set.call()]).toEqual([set.enabled ? expected : '', outer])
        expect(set.call(method.names)).toBe(inner)
      })
  }
}

describe('any sequence of methods', () => {
  it('gives the state of the simple model, even if other methods interrupt merges', async () => {
    await fc.assert(
      fc.asyncProperty(methods, async (sequence) => {
        const { host, set } = createSet()
        const expected = new Expected()
        const check = () => {
          expect(set.listAdapters()).toEqual([...expected.scales.keys()])
          expect(set.activeAdapters).toEqual(expected.active)
          expect(set.mergedAdapters).toEqual(expected.merged?.names ?? [])
          expect(set.enabled).toBe(expected.isEnabled)
          expect(set.call()).toBe(expected.shown)
          expect(host.shown).toBe(expected.shown)
          // Each result of a merge is in use, or has been freed once.
          expect(host.discarded).toHaveLength(host.merges - (expected.merged ? 1 : 0))
          expect(new Set(host.discarded).size).toBe(host.discarded.length)
        }
        for (const method of sequence) {
          if (method.method !== 'merge') {
            expect(await start(set, method)).toBe(expected.run(method))
            check()
            continue
          }
          host.gate.isOpen = false
          const uninterrupted = Object.assign(new Expected(), expected, { scales: new Map(expected.scales) })
          const problem = uninterrupted.merge(method.names)
          const merge = settled(set.mergeAdapter(method.names))
          await runMicrotasks()
          // A method does not interrupt the merge if it fails, or changes nothing that the merge depends on.
          let isInterrupted = false
          const started: (string | Promise<string>)[] = []
          const codes: (() => string)[] = []
          for (const other of method.during) {
            if (other.method === 'merge') continue
            const isLoad = other.method === 'load' && !expected.scales.has(other.name)
            started.push(start(set, other))
            // In the queue, a load follows the merge.
            const code = isLoad ? '' : expected.run(other)
            codes.push(() => (isLoad ? expected.run(other) : code))
            const changes = ['load', 'set', 'delete', 'disable', 'unmerge', 'edit'].includes(other.method)
            if (changes && code === '') isInterrupted = true
          }
          host.gate.open()
          const received = await merge
          if (problem !== '') expect(received).toBe(problem)
          else if (isInterrupted) expect(received).toBe('INVALID_STATE')
          else {
            expect(received).toBe('')
            expected.merged = uninterrupted.merged
          }
          expect(await Promise.all(started)).toEqual(codes.map((code) => code()))
          check()
        }
      }),
      { numRuns: 1000 },
    )
  })
})

const INVALID_STATE = expect.objectContaining({ code: 'INVALID_STATE' })

describe('a load', () => {
  it('that waits for its files is aborted when the set ends', async () => {
    const { set } = createSet()
    const load = settled(set.loadFrom('a', new Promise(() => undefined)))
    const next = settled(set.load('b'))
    set.end()
    expect([await load, await next]).toEqual(['INVALID_STATE', 'INVALID_STATE'])
  })

  it('whose files cannot be read does not interrupt a running merge', async () => {
    const { host, set } = createSet()
    await set.load('a')
    host.gate.isOpen = false
    const merge = settled(set.mergeAdapter())
    await runMicrotasks()
    const load = settled(set.loadFrom('b', Promise.reject(invalidState('no file'))))
    await runMicrotasks()
    host.gate.open()
    expect([await merge, await load]).toEqual(['', 'INVALID_STATE'])
    expect(set.call()).toBe('merged a×1')
  })

  it('that the host cannot serve is undone, and can be tried again', async () => {
    const { host, set } = createSet()
    await set.load('a')
    host.isBroken = true
    expect(await settled(set.load('b'))).toBe('Error: no memory')
    expect(host.forgotten).toEqual(['b'])
    expect(set.listAdapters()).toEqual(['a'])
    host.isBroken = false
    await set.load('b')
    expect(set.listAdapters()).toEqual(['a', 'b'])
  })

  it.each<[string, (set: TestSet) => unknown, string]>([
    ['the set ends', (set) => set.end(), 'INVALID_STATE'],
    ['its name is taken', (set) => set.loadNow('a'), 'ADAPTER_EXISTS'],
  ])('is rejected if %s before it ends', async (_, method, code) => {
    const { host, set } = createSet()
    host.gate.isOpen = false
    const load = settled(set.load('a'))
    await runMicrotasks()
    method(set)
    host.gate.open()
    expect(await load).toBe(code)
    expect(host.forgotten).toEqual(['a'])
  })
})

it('a second load of a name is rejected before the host matches it', async () => {
  const { host, set } = createSet()
  const loads = await Promise.all([settled(set.load('a')), settled(set.load('a'))])
  expect([loads, host.matched]).toEqual([['', 'ADAPTER_EXISTS'], ['a']])
})

it('a deleted adapter is freed', async () => {
  const { host, set } = createSet()
  await set.load('a')
  set.deleteAdapter('a')
  expect(host.forgotten).toEqual(['a'])
})

it('the scale of an adapter or a row must be a finite number', async () => {
  const { set } = createSet()
  await set.load('a')
  for (const scale of [Number.NaN, Number.POSITIVE_INFINITY, '2' as never]) {
    expect(attempt(() => set.setScale('a', scale))).toBe('INVALID_OPTION')
    expect(attempt(() => set.call([{ name: 'a', scale }]))).toBe('INVALID_OPTION')
  }
  for (const row of [{ scale: 1 }, undefined, 7])
    expect(attempt(() => set.call([row as never]))).toBe('INVALID_OPTION')
  expect(set.scaleOf('a')).toBe(1)
})

describe('a merge', () => {
  it('uses the scales at the time of its call', async () => {
    const { host, set } = createSet()
    await set.load('a')
    set.setScale('a', 2)
    host.gate.isOpen = false
    const load = set.load('b')
    const merge = set.mergeAdapter(['a', 'b'])
    set.setScale('a', 3)
    host.gate.open()
    await Promise.all([load, merge])
    expect(set.call()).toBe('merged a×2 + b×1')
    set.unmergeAdapter()
    expect(set.call()).toBe('a×3')
  })

  it.each<[string, (set: TestSet) => unknown]>([
    ['an adapter is added without the queue', (set) => set.loadNow('c')],
    ['an adapter is edited', (set) => set.editNow('b')],
    ['a training starts', (set) => set.trainWith(async () => 0, 'b')],
    ['the set ends', (set) => set.end()],
  ])('is rejected if %s before it ends', async (_, method) => {
    for (const isStarted of [false, true]) {
      const { host, set } = createSet()
      await set.load('a')
      await set.load('b')
      host.gate.isOpen = false
      const merge = settled(set.mergeAdapter())
      if (isStarted) await runMicrotasks()
      await method(set)
      host.gate.open()
      expect(await merge).toBe('INVALID_STATE')
      expect(set.mergedAdapters).toEqual([])
      expect(host.discarded).toHaveLength(host.merges)
      // The set does not call the host if the merge has already failed.
      expect(host.merges).toBe(isStarted ? 1 : 0)
    }
  })

  it('reports the interruption, even if the host also fails', async () => {
    const { host, set } = createSet()
    await set.load('a')
    host.gate.isOpen = false
    const merge = settled(set.mergeAdapter())
    await runMicrotasks()
    set.deleteAdapter('a')
    host.isBroken = true
    host.gate.open()
    expect(await merge).toBe('INVALID_STATE')
  })

  it('is rejected and freed if the host reports written weights', async () => {
    const { host, set } = createSet()
    await set.load('a')
    host.problem = 'written'
    await expect(set.mergeAdapter()).rejects.toThrow(INVALID_STATE)
    expect([host.discarded.length, set.call()]).toEqual([1, 'a×1'])
    host.problem = undefined
    await set.mergeAdapter()
    expect(set.call()).toBe('merged a×1')
  })

  it('that fails does not affect the next one', async () => {
    const { host, set } = createSet()
    await set.load('a')
    host.isBroken = true
    expect(await settled(set.mergeAdapter())).toBe('Error: no memory')
    host.isBroken = false
    expect([await settled(set.mergeAdapter()), set.call()]).toEqual(['', 'merged a×1'])
  })
})

it('idle() waits for the running methods, also after the end of the set', async () => {
  const { host, set } = createSet()
  host.gate.isOpen = false
  const order: string[] = []
  const load = settled(set.load('a')).then(() => order.push('load'))
  await runMicrotasks()
  set.end()
  const ended = set.ended().then(() => order.push('end'))
  await runMicrotasks()
  host.gate.open()
  await Promise.all([load, ended])
  expect(order).toEqual(['load', 'end'])
})

it('getAdapter() without a name returns the only active adapter', async () => {
  const { set } = createSet()
  await set.load('a')
  await set.load('b')
  expect(await set.getAdapter()).toBe(SOURCE)
  set.setAdapter(['a', 'b'])
  expect(await settled(set.getAdapter())).toBe('INVALID_STATE')
  set.setAdapter([])
  expect(await settled(set.getAdapter())).toBe('INVALID_STATE')
  expect(await set.getAdapter('b')).toBe(SOURCE)
})

it('an adapter with trained biases is rejected', async () => {
  const { host, set } = createSet()
  const { modules } = SOURCE
  const config = createConfig({ nFrequency: 1, targetModules: ['m'], bias: 'all' })
  const load = set.loadFrom('a', Promise.resolve(new Adapter({ config, modules })))
  expect(await settled(load)).toBe('UNSUPPORTED')
  expect(host.matched).toEqual([])
})

describe('a training', () => {
  it('prevents its adapters from being deleted, merged, trained twice or unloaded until it ends or fails', async () => {
    const { set } = createSet()
    await set.load('a')
    await set.load('b')
    let fail: (error: Error) => void = () => undefined
    const training = settled(set.trainWith(() => new Promise((_, reject) => (fail = reject))))
    expect(() => set.deleteAdapter('a')).toThrow(INVALID_STATE)
    expect(() => set.end()).toThrow(INVALID_STATE)
    expect(await settled(set.mergeAdapter())).toBe('INVALID_STATE')
    expect(await settled(set.mergeAdapter(['b', 'a']))).toBe('INVALID_STATE')
    expect(await settled(set.trainWith(async () => 0, ['b', 'a']))).toBe('INVALID_STATE')
    expect(await settled(set.unload('base'))).toBe('INVALID_STATE')
    expect(await settled(set.unload('merged'))).toBe('INVALID_STATE')
    set.deleteAdapter('b')
    fail(new Error('no data'))
    expect(await training).toBe('Error: no data')
    await set.mergeAdapter()
    expect(await settled(set.trainWith(async () => 0))).toBe('INVALID_STATE')
    set.deleteAdapter('a')
    expect(await settled(set.trainWith(async () => 0))).toBe('INVALID_STATE')
    await set.load('whole1')
    await set.load('whole2')
    expect(await settled(set.trainWith(async () => 0, ['whole1', 'whole2']))).toBe('UNSUPPORTED')
    set.disableAdapters()
    expect(await settled(set.trainWith(async () => 0, 'whole1'))).toBe('INVALID_STATE')
  })
})

describe('rows', () => {
  it('are those of the innermost function, and their adapters cannot be deleted', async () => {
    const { host, set } = createSet()
    await set.load('a')
    await set.load('b')
    const seen = set.withAdapterPerRow(['a', null], () => {
      expect(() => set.deleteAdapter('a')).toThrow(INVALID_STATE)
      const inner = set.withAdapterPerRow([null, 'b'], () => {
        expect(() => set.deleteAdapter('a')).toThrow(INVALID_STATE)
        expect(() => set.deleteAdapter('b')).toThrow(INVALID_STATE)
        return [set.call(), host.shown]
      })
      set.deleteAdapter('b')
      return [...inner, set.call(), host.shown]
    })
    expect(seen).toEqual(['[–, b×1]', '[–, b×1]', '[a×1, –]', '[a×1, –]'])
    expect([set.call(), host.shown]).toEqual(['a×1', 'a×1'])
    set.deleteAdapter('a')
  })

  it('are rejected if the host rejects one of their adapters', async () => {
    const { set } = createSet()
    await set.load('a')
    await set.load('batch-only')
    expect(attempt(() => set.withAdapterPerRow(['a', 'batch-only'], () => 0))).toBe('UNSUPPORTED')
    expect(attempt(() => set.call(['batch-only', null]))).toBe('UNSUPPORTED')
    expect(set.call(['a', null])).toBe('[a×1, –]')
  })

  it('end with a function that throws, or that ends the set', async () => {
    const { host, set } = createSet()
    await set.load('a')
    const fail = () => {
      throw new Error('mine')
    }
    expect(() => set.withAdapterPerRow(['a', 'a'], fail)).toThrow('mine')
    expect([set.call(), host.shown]).toEqual(['a×1', 'a×1'])
    set.withAdapterPerRow(['a', 'a'], () => set.end())
    expect(() => set.call()).toThrow(INVALID_STATE)
  })
})

describe('a model that is being unloaded', () => {
  it.each(['merged', 'base'] as const)(
    "with keep: '%s' rejects methods, and calls use the kept model",
    async (keep) => {
      const { set } = createSet()
      await set.load('a')
      await set.load('b')
      const kept = keep === 'merged' ? 'a×1' : ''
      let isDone = false
      await set.unload(keep, async (shown) => {
        expect([shown, set.call()]).toEqual([kept, kept])
        expect(() => set.setAdapter('b')).toThrow(INVALID_STATE)
        expect(() => set.deleteAdapter('a')).toThrow(INVALID_STATE)
        expect(() => set.end()).toThrow(INVALID_STATE)
        expect(await settled(set.mergeAdapter())).toBe('INVALID_STATE')
        expect(await settled(set.load('c'))).toBe('INVALID_STATE')
        expect(await settled(set.unload('base'))).toBe('INVALID_STATE')
        isDone = true
      })
      expect(isDone).toBe(true)
      expect(() => set.setAdapter('a')).toThrow('unloaded')
      expect(() => set.call()).toThrow('unloaded')
      expect(() => set.scaleOf('a')).toThrow('unloaded')
      expect([set.listAdapters(), set.activeAdapters, set.mergedAdapters]).toEqual([[], [], []])
    },
  )

  it('is unchanged if the unload fails', async () => {
    const { set } = createSet()
    await set.load('a')
    await set.mergeAdapter()
    const fail = (shown: string) => Promise.reject(new Error(`no session, ${shown}`))
    expect(await settled(set.unload('merged', fail))).toBe('Error: no session, merged a×1')
    expect(await settled(set.unload('base', fail))).toBe('Error: no session, merged a×1')
    expect([set.call(), set.mergedAdapters]).toEqual(['merged a×1', ['a']])
    set.disableAdapters()
    expect(await settled(set.unload('merged'))).toBe('INVALID_STATE')
    expect(await settled(set.unload('base'))).toBe('')
  })

  it('waits in the queue for earlier loads; later methods interrupt it only if the adapters are kept', async () => {
    for (const keep of ['merged', 'base'] as const) {
      const { host, set } = createSet()
      host.gate.isOpen = false
      const load = settled(set.load('a'))
      const leave = settled(set.unload(keep))
      set.setAdapter([])
      expect(await settled(set.mergeAdapter())).toBe('INVALID_STATE')
      host.gate.open()
      expect([await load, await leave]).toEqual(['', keep === 'merged' ? 'INVALID_STATE' : ''])
    }
  })
})

describe('an exchange', () => {
  const OTHER = createAdapter(createConfig({ nFrequency: 2, targetModules: ['m'] }), { m: [2, 2] })

  it('keeps the name, the scale and the state of the adapter; calls use the old one until it ends', async () => {
    const { host, set } = createSet()
    await set.load('a')
    await set.load('b')
    set.setScale('a', 0.5)
    host.gate.isOpen = false
    const sources: Adapter[] = []
    const exchange = set.exchangeBy('a', (old) => {
      sources.push(old)
      return OTHER
    })
    await Promise.resolve()
    expect([set.call(), await set.getAdapter('a')]).toEqual(['a×0.5', SOURCE])
    host.gate.open()
    await exchange
    expect(sources).toEqual([SOURCE])
    expect([set.call(), await set.getAdapter('a'), set.listAdapters()]).toEqual(['a×0.5', OTHER, ['a', 'b']])
    expect(host.forgotten).toEqual(['a'])
    expect(set.activeAdapters).toEqual(['a'])
  })

  it('that fails changes nothing', async () => {
    const { host, set } = createSet()
    await set.load('a')
    const fail = () => Promise.reject(new Error('no weights'))
    expect(await settled(set.exchangeBy('missing', () => OTHER))).toBe('ADAPTER_NOT_FOUND')
    expect(await settled(set.exchangeBy('a', fail))).toBe('Error: no weights')
    host.isBroken = true
    expect(await settled(set.exchangeBy('a', () => OTHER))).toBe('Error: no memory')
    host.isBroken = false
    await set.mergeAdapter()
    expect(await settled(set.exchangeBy('a', () => OTHER))).toBe('INVALID_STATE')
    set.unmergeAdapter()
    host.gate.isOpen = false
    const exchange = settled(set.exchangeBy('a', () => OTHER))
    await new Promise((done) => setImmediate(done))
    set.deleteAdapter('a')
    host.gate.open()
    expect(await exchange).toBe('ADAPTER_NOT_FOUND')
    expect(set.listAdapters()).toEqual([])
  })

  it('is rejected if another active adapter replaces the same layer', async () => {
    const { host, set } = createSet()
    await set.load('whole')
    await set.load('a')
    set.setAdapter(['whole', 'a'])
    host.match = async (name, source) => ({ name, source, replaces: new Map([['head', 'head']]) })
    expect(await settled(set.exchangeBy('a', () => OTHER))).toBe('UNSUPPORTED')
    expect([set.call(), await set.getAdapter('a')]).toEqual(['whole×1 + a×1', SOURCE])
    set.setAdapter('whole')
    expect(await settled(set.exchangeBy('a', () => OTHER))).toBe('')
  })
})

it('methods report a model that was closed without the set, and the set can still be ended', async () => {
  const { host, set } = createSet()
  await set.load('a')
  await set.mergeAdapter()
  host.isClosed = true
  expect(() => set.setAdapter('a')).toThrow('closed')
  expect(() => set.call()).toThrow('closed')
  expect(await settled(set.load('b'))).toBe('INVALID_STATE')
  const { adapters, merged } = set.end()
  expect([adapters.length, merged?.text]).toEqual([1, 'merged a×1'])
  expect(() => set.end()).toThrow('ended')
})

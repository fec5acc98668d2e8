/**
 * The life cycle of adapters, one situation for each test. Outputs are compared with those of fresh models that reach the same adapters in the
 * simplest way, so the suite needs to know nothing else about the model. The levels check that the outputs are right.
 */
import { type ErrorCode, FourierFTError } from '@fourierft/core'
import { type AdapterSubject, type AdapterSubjects, type SuiteAdapters, suiteAdapters } from './subject.js'

export interface Situation {
  readonly name: string
  /** Throws if the subject does not behave as it should. */
  run(tested: PackageUnderTest): Promise<void>
  /** The ability that the subject needs. */
  readonly needs?: Ability
}

/** Abilities that some packages lack. */
export type Ability = 'train' | 'writeWeights'

export const ABILITIES: readonly Ability[] = ['train', 'writeWeights']

/** The applied adapters, which determine the output; `a*0.5` is `a` at half scale. */
type Output = 'base' | 'a' | 'b' | 'a+b' | 'headA' | 'headB' | 'a*0.5'

const OUTPUTS: readonly Output[] = ['base', 'a', 'b', 'a+b', 'headA', 'headB', 'a*0.5']

/** Far longer than any call or rebuild of a small model. */
const DEADLOCK_MS = 240_000

/** A package under test with the outputs that its models can have. */
export class PackageUnderTest {
  readonly subjects: AdapterSubjects
  readonly adapters: SuiteAdapters
  readonly #outputs: ReadonlyMap<Output, Float32Array>
  readonly #open = new Set<AdapterSubject>()

  private constructor(subjects: AdapterSubjects, outputs: ReadonlyMap<Output, Float32Array>) {
    this.subjects = subjects
    this.adapters = suiteAdapters(subjects)
    this.#outputs = outputs
  }

  /**
   * Observes every output once, and checks that they differ enough.
   *
   * @param observed the models to observe, if the tested ones may be faulty
   */
  static async open(subjects: AdapterSubjects, observed = subjects): Promise<PackageUnderTest> {
    const adapters = suiteAdapters(subjects)
    const outputs = new Map<Output, Float32Array>()
    const tested = new PackageUnderTest(subjects, outputs)
    for (const output of OUTPUTS) {
      const subject = await observed.create()
      const [first = '', scale] = output.split('*')
      const names = output === 'base' ? [] : first.split('+')
      for (const name of names)
        await subject.adapters.loadAdapter(adapters[name as keyof SuiteAdapters], { name })
      subject.adapters.setAdapter(names)
      if (scale !== undefined) subject.adapters.setScale(first, Number(scale))
      outputs.set(output, await subject.call())
      await subject.end()
    }
    for (const [first, values] of outputs)
      for (const [second, otherValues] of outputs)
        if (first !== second && distance(values, otherValues) < 100 * tested.#tolerance)
          throw new Error(`the outputs ${first} and ${second} of this model are too similar to distinguish`)
    return tested
  }

  /** Makes a model with these adapters loaded, the first of them active. */
  async subject(...names: (keyof SuiteAdapters)[]): Promise<AdapterSubject> {
    const subject = await this.subjects.create()
    this.#open.add(subject)
    for (const name of names) await subject.adapters.loadAdapter(this.adapters[name], { name })
    return subject
  }

  /** Ends all open subjects. */
  async close(): Promise<void> {
    for (const subject of this.#open) {
      this.#open.delete(subject)
      await subject.end()
    }
  }

  async end(subject: AdapterSubject): Promise<void> {
    this.#open.delete(subject)
    await subject.end()
  }

  /** Throws unless the output is that of the expected adapters. */
  async expectOutput(output: Float32Array | Promise<Float32Array>, expected: Output): Promise<void> {
    this.#expectRow(await unlessDeadlock(output), 0, expected)
    this.#expectRow(await output, 1, expected)
  }

  /** Throws unless the rows of the output are those of the expected adapters. */
  async expectRows(output: Promise<Float32Array>, first: Output, second: Output): Promise<void> {
    this.#expectRow(await unlessDeadlock(output), 0, first)
    this.#expectRow(await output, 1, second)
  }

  /** Throws unless the output is the base model's, bit for bit. */
  async expectBase(output: Promise<Float32Array>): Promise<void> {
    const values = await unlessDeadlock(output)
    const base = this.#output('base')
    if (values.some((value, i) => !Object.is(value, base[i])))
      throw new Error(`expected the output of the base model, bit for bit; it is ${this.#describe(values)}`)
  }

  /** Throws unless two outputs are equal up to rounding. */
  expectSame(output: Float32Array, expected: Float32Array): void {
    const error = distance(output, expected)
    if (!(error <= this.#tolerance)) throw new Error(`the outputs differ by ${error} of the largest number`)
  }

  get #tolerance(): number {
    return this.subjects.tolerance ?? 1e-4
  }

  #expectRow(output: Float32Array, row: number, expected: Output): void {
    const half = output.length / 2
    const rowOf = (values: Float32Array) => values.subarray(row * half, (row + 1) * half)
    const error = distance(rowOf(output), rowOf(this.#output(expected)))
    if (!(error <= this.#tolerance))
      throw new Error(
        `row ${row}: expected the output of ${expected}; it is ${this.#describe(output, rowOf)}`,
      )
  }

  #output(name: Output): Float32Array {
    return this.#outputs.get(name) as Float32Array
  }

  #describe(values: Float32Array, part = (all: Float32Array) => all): string {
    const close = OUTPUTS.filter(
      (name) => distance(part(values), part(this.#output(name))) <= this.#tolerance,
    )
    return close.length > 0 ? `that of ${close.join(', ')}` : 'none of the expected ones'
  }
}

/** Returns the largest difference, relative to the largest number of `b`. */
function distance(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY
  const largest = Math.max(...Array.from(b, Math.abs))
  return Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i]))) / largest
}

/** Awaits `promise`, but rejects after `DEADLOCK_MS`. */
export async function unlessDeadlock<T>(promise: T | Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`deadlock: still waiting after ${DEADLOCK_MS / 1000} s`)),
      DEADLOCK_MS,
    )
  })
  try {
    return await Promise.race([promise, timeout])
  } finally {
    clearTimeout(timer)
  }
}

/** Throws unless `method` throws, or rejects with, an error with this code. */
async function expectRejection(code: ErrorCode, method: () => unknown): Promise<void> {
  let received: unknown
  try {
    received = await unlessDeadlock(method())
  } catch (error) {
    if (FourierFTError.isInstance(error) && error.code === code) return
    throw new Error(`expected ${code}; received ${String(error)}`, { cause: error })
  }
  throw new Error(`expected ${code}; the method returned ${String(received)}`)
}

function expectEqual(received: unknown, expected: unknown, what: string): void {
  const [actual, wanted] = [JSON.stringify(received), JSON.stringify(expected)]
  if (actual !== wanted) throw new Error(`${what}: expected ${wanted}; received ${actual}`)
}

/** Marks the rejection of a promise as handled, because the test awaits the promise only later. */
function awaitLater<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined)
  return promise
}

/** Methods that must not affect a call that has started. */
const METHODS_DURING_A_CALL: readonly [
  string,
  (subject: AdapterSubject, tested: PackageUnderTest) => unknown,
][] = [
  ['setAdapter', ({ adapters }) => adapters.setAdapter('b')],
  ['setAdapter with no names', ({ adapters }) => adapters.setAdapter([])],
  ['setScale', ({ adapters }) => adapters.setScale('a', 0.5)],
  ['disableAdapters', ({ adapters }) => adapters.disableAdapters()],
  ['deleteAdapter', ({ adapters }) => adapters.deleteAdapter('a')],
  ['loadAdapter', ({ adapters }, tested) => adapters.loadAdapter(tested.adapters.headB, { name: 'headB' })],
  ['mergeAdapter', ({ adapters }) => adapters.mergeAdapter('b')],
  [
    'deleteAdapter and a rebuild without the adapter',
    async ({ adapters }, tested) => {
      adapters.deleteAdapter('a')
      await adapters.loadAdapter(tested.adapters.headB, { name: 'headB' })
    },
  ],
]

/** Methods that change which adapters a merge that has started should merge. */
const METHODS_DURING_A_MERGE: readonly {
  readonly method: string
  call(subject: AdapterSubject, tested: PackageUnderTest): unknown
  readonly after: Output
}[] = [
  { method: 'setAdapter', call: ({ adapters }) => adapters.setAdapter('b'), after: 'b' },
  { method: 'disableAdapters', call: ({ adapters }) => adapters.disableAdapters(), after: 'base' },
  { method: 'deleteAdapter', call: ({ adapters }) => adapters.deleteAdapter('a'), after: 'base' },
  { method: 'unmergeAdapter', call: ({ adapters }) => adapters.unmergeAdapter(), after: 'a' },
  {
    method: 'loadAdapter',
    call: ({ adapters }, tested) => adapters.loadAdapter(tested.adapters.headB, { name: 'headB' }),
    after: 'a',
  },
]

const ALL_METHODS: readonly [string, (subject: AdapterSubject, tested: PackageUnderTest) => unknown][] = [
  ['loadAdapter', ({ adapters }, tested) => adapters.loadAdapter(tested.adapters.b, { name: 'b' })],
  [
    'addAdapter',
    ({ adapters }, tested) =>
      adapters.addAdapter('new', { nFrequency: 4, targetModules: [tested.subjects.layer.module] }),
  ],
  ['setAdapter', ({ adapters }) => adapters.setAdapter([])],
  ['setScale', ({ adapters }) => adapters.setScale('a', 1)],
  ['disableAdapters', ({ adapters }) => adapters.disableAdapters()],
  ['enableAdapters', ({ adapters }) => adapters.enableAdapters()],
  ['deleteAdapter', ({ adapters }) => adapters.deleteAdapter('a')],
  ['mergeAdapter', ({ adapters }) => adapters.mergeAdapter()],
  ['unmergeAdapter', ({ adapters }) => adapters.unmergeAdapter()],
  ['withAdapterPerRow', ({ adapters }) => adapters.withAdapterPerRow([null, null], () => 0)],
  ['getAdapter', ({ adapters }) => adapters.getAdapter('a')],
]

export const SITUATIONS: readonly Situation[] = [
  ...METHODS_DURING_A_CALL.map(
    ([method, call]): Situation => ({
      name: `a call that has started keeps its adapters: ${method}`,
      async run(tested) {
        const subject = await tested.subject('a', 'b')
        const result = subject.callDuring(() => call(subject, tested))
        await tested.expectOutput(result, 'a')
      },
    }),
  ),
  {
    name: 'neither a call inside a call nor a load that starts in the same call deadlocks',
    async run(tested) {
      const subject = await tested.subject('a')
      let load: Promise<void> | undefined
      const outer = subject.callDuring(async () => {
        load = awaitLater(subject.adapters.loadAdapter(tested.adapters.b, { name: 'b' }))
        await tested.expectOutput(subject.call(), 'a')
      })
      await tested.expectOutput(outer, 'a')
      await unlessDeadlock(load)
      subject.adapters.setAdapter('b')
      await tested.expectOutput(subject.call(), 'b')
    },
  },
  {
    name: 'neither a call inside a call nor a merge that starts in the same call deadlocks',
    async run(tested) {
      const subject = await tested.subject('a')
      let merge: Promise<void> | undefined
      const outer = subject.callDuring(async () => {
        merge = awaitLater(subject.adapters.mergeAdapter())
        await tested.expectOutput(subject.call(), 'a')
      })
      await tested.expectOutput(outer, 'a')
      await unlessDeadlock(merge)
      expectEqual(subject.adapters.mergedAdapters, ['a'], 'mergedAdapters')
      await tested.expectOutput(subject.call(), 'a')
    },
  },
  {
    name: 'a load inside a call ends before the call does',
    async run(tested) {
      const subject = await tested.subject('a')
      const outer = subject.callDuring(() => subject.adapters.loadAdapter(tested.adapters.b, { name: 'b' }))
      await tested.expectOutput(outer, 'a')
      expectEqual(subject.adapters.listAdapters(), ['a', 'b'], 'listAdapters')
    },
  },
  {
    name: 'a duplicate name counts once',
    async run(tested) {
      const { adapters, call } = await tested.subject('a', 'b')
      adapters.setAdapter(['a', 'a'])
      expectEqual(adapters.activeAdapters, ['a'], 'activeAdapters')
      await tested.expectOutput(call(), 'a')
      await adapters.mergeAdapter(['b', 'b'])
      expectEqual(adapters.mergedAdapters, ['b'], 'mergedAdapters')
      await tested.expectOutput(call(), 'b')
    },
  },
  {
    name: 'several adapters are added, both unmerged and merged',
    async run(tested) {
      const { adapters, call } = await tested.subject('a', 'b')
      adapters.setAdapter(['a', 'b'])
      await tested.expectOutput(call(), 'a+b')
      await adapters.mergeAdapter()
      await tested.expectOutput(call(), 'a+b')
    },
  },
  {
    name: 'a second merge is rejected while the first one runs, and the weights contain each ΔW once',
    async run(tested) {
      const { adapters, call } = await tested.subject('a')
      const first = awaitLater(adapters.mergeAdapter())
      await expectRejection('INVALID_STATE', () => adapters.mergeAdapter())
      await first
      await tested.expectOutput(call(), 'a')
      await expectRejection('INVALID_STATE', () => adapters.mergeAdapter())
      await tested.expectOutput(call(), 'a')
      adapters.unmergeAdapter()
      await tested.expectOutput(call(), 'a')
      adapters.disableAdapters()
      await tested.expectBase(call())
    },
  },
  ...METHODS_DURING_A_MERGE.map(
    ({ method, call, after }): Situation => ({
      name: `a merge is rejected if a method is called before it ends: ${method}`,
      async run(tested) {
        const subject = await tested.subject('a', 'b')
        const { adapters } = subject
        const merge = awaitLater(adapters.mergeAdapter())
        const done = awaitLater((async () => call(subject, tested))())
        await expectRejection('INVALID_STATE', () => merge)
        await done
        expectEqual(adapters.mergedAdapters, [], 'mergedAdapters')
        await tested.expectOutput(subject.call(), after)
        adapters.enableAdapters()
        adapters.setAdapter('b')
        await adapters.mergeAdapter()
        await tested.expectOutput(subject.call(), 'b')
        adapters.disableAdapters()
        await tested.expectBase(subject.call())
      },
    }),
  ),
  {
    name: 'a method called before a merge does not reject it, even while a call runs',
    async run(tested) {
      const subject = await tested.subject('a', 'b')
      const { adapters } = subject
      let merge: Promise<void> | undefined
      const outer = subject.callDuring(() => {
        adapters.deleteAdapter('a')
        adapters.setAdapter('b')
        merge = awaitLater(adapters.mergeAdapter())
      })
      await tested.expectOutput(outer, 'a')
      await merge
      expectEqual(adapters.mergedAdapters, ['b'], 'mergedAdapters')
      await tested.expectOutput(subject.call(), 'b')
    },
  },
  {
    name: 'a load that started before a merge ends before it',
    async run(tested) {
      const { adapters, call } = await tested.subject('a')
      const load = awaitLater(adapters.loadAdapter(tested.adapters.b, { name: 'b' }))
      await adapters.mergeAdapter('b')
      await load
      expectEqual(adapters.mergedAdapters, ['b'], 'mergedAdapters')
      await tested.expectOutput(call(), 'b')
    },
  },
  {
    name: 'a merge has the ΔW and the replaced layers of the same adapters',
    async run(tested) {
      const subject = await tested.subject('headA', 'headB')
      const { adapters } = subject
      const outer = subject.callDuring(async () => {
        adapters.setAdapter('headB')
        await adapters.mergeAdapter()
        await tested.expectOutput(subject.call(), 'headB')
      })
      await tested.expectOutput(outer, 'headA')
      await tested.expectOutput(subject.call(), 'headB')
      adapters.unmergeAdapter()
      await adapters.mergeAdapter('headA')
      await tested.expectOutput(subject.call(), 'headA')
      adapters.unmergeAdapter()
      await tested.expectOutput(subject.call(), 'headB')
      await expectRejection('UNSUPPORTED', () => adapters.mergeAdapter(['headA', 'headB']))
      await expectRejection('UNSUPPORTED', () => adapters.setAdapter(['headA', 'headB']))
      await tested.expectOutput(subject.call(), 'headB')
    },
  },
  {
    name: 'a call that started while merged uses the merged weights',
    async run(tested) {
      const subject = await tested.subject('a', 'b')
      await subject.adapters.mergeAdapter()
      await tested.expectOutput(
        subject.callDuring(() => subject.adapters.setAdapter('b')),
        'a',
      )
      await tested.expectOutput(subject.call(), 'b')
    },
  },
  {
    name: 'while adapters are disabled, every call runs the base model: merged or not, with or without rows',
    async run(tested) {
      const { adapters, call, callWithRows } = await tested.subject('a', 'headB')
      await tested.expectRows(adapters.withAdapterPerRow(['a', null], call), 'a', 'base')
      await adapters.mergeAdapter()
      adapters.disableAdapters()
      expectEqual(adapters.enabled, false, 'enabled')
      expectEqual(adapters.activeAdapters, ['a'], 'activeAdapters')
      await tested.expectBase(call())
      await tested.expectBase(adapters.withAdapterPerRow(['a', null], call))
      if (callWithRows) await tested.expectBase(callWithRows(['a', null]))
      await expectRejection('INVALID_STATE', () => adapters.mergeAdapter())
      adapters.enableAdapters()
      await tested.expectOutput(call(), 'a')
    },
  },
  {
    name: 'rows have their own adapters, independent of the active ones',
    async run(tested) {
      const { adapters, call, callWithRows } = await tested.subject('a', 'b')
      await tested.expectRows(adapters.withAdapterPerRow(['b', 'a'], call), 'b', 'a')
      await tested.expectRows(adapters.withAdapterPerRow([null, 'b'], call), 'base', 'b')
      if (callWithRows) await tested.expectRows(callWithRows(['b', null]), 'b', 'base')
      await tested.expectOutput(call(), 'a')
      adapters.setAdapter([])
      await tested.expectRows(adapters.withAdapterPerRow(['b', 'a'], call), 'b', 'a')
      await expectRejection('ADAPTER_NOT_FOUND', () => adapters.withAdapterPerRow(['b', 'c'], call))
      await expectRejection('INVALID_OPTION', () => adapters.withAdapterPerRow('b' as never, call))
      await expectRejection('INVALID_OPTION', () => adapters.withAdapterPerRow([7 as never, 'b'], call))
      await expectRejection('INVALID_OPTION', () => adapters.withAdapterPerRow([], call))
      await tested.expectBase(call())
    },
  },
  {
    name: 'an adapter of a row cannot be deleted before its call starts',
    async run(tested) {
      const { adapters, call } = await tested.subject('a', 'b')
      const rows = adapters.withAdapterPerRow(['b', null], () => {
        let isRejected = false
        try {
          adapters.deleteAdapter('b')
        } catch (error) {
          isRejected = FourierFTError.isInstance(error) && error.code === 'INVALID_STATE'
        }
        expectEqual(isRejected, true, 'deleteAdapter is rejected')
        adapters.deleteAdapter('a')
        return call()
      })
      await tested.expectRows(rows, 'b', 'base')
      adapters.deleteAdapter('b')
    },
  },
  {
    name: 'rows have their own replaced layers, or are rejected if the model cannot have several',
    async run(tested) {
      const { adapters, call, callWithRows } = await tested.subject('a', 'headA', 'headB')
      const choices = [
        ['headA', 'headB'],
        ['a', 'headB'],
        ['headB', null],
      ] as const
      for (const [first, second] of choices) {
        const rows = [first, second]
        if (tested.subjects.hasHeadPerRow ?? true) {
          await tested.expectRows(adapters.withAdapterPerRow(rows, call), first, second ?? 'base')
          if (callWithRows) await tested.expectRows(callWithRows(rows), first, second ?? 'base')
        } else {
          await expectRejection('UNSUPPORTED', () => adapters.withAdapterPerRow(rows, call))
          if (callWithRows) await expectRejection('UNSUPPORTED', () => callWithRows(rows))
        }
      }
      await tested.expectRows(adapters.withAdapterPerRow(['headB', 'headB'], call), 'headB', 'headB')
      await tested.expectOutput(call(), 'a')
    },
  },
  {
    name: 'rows are rejected while merged',
    async run(tested) {
      const { adapters, call, callWithRows } = await tested.subject('a')
      await adapters.mergeAdapter()
      await expectRejection('INVALID_STATE', () => adapters.withAdapterPerRow(['a', null], call))
      if (callWithRows) await expectRejection('INVALID_STATE', () => callWithRows(['a', null]))
      await tested.expectOutput(call(), 'a')
    },
  },
  {
    name: 'a deleted adapter is neither active nor merged',
    async run(tested) {
      const { adapters, call } = await tested.subject('a', 'b')
      adapters.setAdapter(['a', 'b'])
      await adapters.mergeAdapter()
      adapters.deleteAdapter('a')
      expectEqual(adapters.mergedAdapters, [], 'mergedAdapters')
      expectEqual(adapters.activeAdapters, ['b'], 'activeAdapters')
      expectEqual(adapters.listAdapters(), ['b'], 'listAdapters')
      await tested.expectOutput(call(), 'b')
      adapters.deleteAdapter('b')
      await tested.expectBase(call())
      await expectRejection('INVALID_STATE', () => adapters.mergeAdapter())
    },
  },
  {
    name: 'an adapter of the same name can be loaded while a call still uses the deleted one',
    async run(tested) {
      const subject = await tested.subject('a')
      const { adapters } = subject
      const outer = subject.callDuring(async () => {
        adapters.deleteAdapter('a')
        await adapters.loadAdapter(tested.adapters.b, { name: 'a' })
      })
      await tested.expectOutput(outer, 'a')
      await tested.expectOutput(subject.call(), 'b')
    },
  },
  {
    name: 'weights that the user writes while merged are rejected or kept',
    needs: 'writeWeights',
    async run(tested) {
      const { adapters, call, writeWeights } = await tested.subject('a')
      await adapters.mergeAdapter()
      let isRejected = false
      try {
        await writeWeights?.()
      } catch (error) {
        if (!(FourierFTError.isInstance(error) && error.code === 'INVALID_STATE')) throw error
        isRejected = true
      }
      if (isRejected) await tested.expectOutput(call(), 'a')
      adapters.disableAdapters()
      if (isRejected) {
        await tested.expectBase(call())
        return
      }
      const other = await tested.subject()
      await other.writeWeights?.()
      expectEqual([...(await call())], [...(await other.call())], 'the output with the written weights')
    },
  },
  {
    name: 'a new adapter is ready immediately, and its name is taken',
    async run(tested) {
      const { adapters, call } = await tested.subject('a')
      const config = { nFrequency: 4, targetModules: [tested.subjects.layer.module], initWeights: true }
      await adapters.addAdapter('new', config)
      expectEqual(adapters.listAdapters(), ['a', 'new'], 'listAdapters')
      expectEqual(adapters.activeAdapters, ['a'], 'activeAdapters')
      await expectRejection('ADAPTER_EXISTS', () => adapters.addAdapter('new', config))
      await expectRejection('ADAPTER_EXISTS', () => adapters.loadAdapter(tested.adapters.b, { name: 'new' }))
      const { modules } = await adapters.getAdapter('new')
      const created = Array.from(modules, ([name, { coefficients }]) => [name, [...coefficients]])
      expectEqual(created, [[tested.subjects.layer.module, [0, 0, 0, 0]]], 'the new adapter')
      adapters.setAdapter('new')
      // Coefficients of zero give the base model's output, up to the order of additions.
      await tested.expectOutput(call(), 'base')
    },
  },
  {
    name: 'getAdapter returns the loaded adapter',
    async run(tested) {
      const { adapters } = await tested.subject('a', 'headB')
      for (const name of ['a', 'headB'] as const) {
        const contentsOf = ({ modules, savedTensors }: typeof tested.adapters.a) => [
          Array.from(modules, ([module, { coefficients }]) => [module, [...coefficients]]),
          Array.from(savedTensors, ([tensor, { bytes }]) => [tensor, [...bytes]]),
        ]
        expectEqual(contentsOf(await adapters.getAdapter(name)), contentsOf(tested.adapters[name]), name)
      }
      expectEqual(
        Array.from((await adapters.getAdapter()).modules.keys()),
        [tested.subjects.layer.module],
        'active',
      )
      await expectRejection('ADAPTER_NOT_FOUND', () => adapters.getAdapter('b'))
    },
  },
  {
    name: 'a new scale applies from the next call, and merged adapters keep their scale',
    async run(tested) {
      const { adapters, call } = await tested.subject('a')
      adapters.setScale('a', 0.5)
      await tested.expectOutput(call(), 'a*0.5')
      await adapters.mergeAdapter()
      await tested.expectOutput(call(), 'a*0.5')
      adapters.setScale('a', 1)
      await tested.expectOutput(call(), 'a*0.5')
      adapters.unmergeAdapter()
      await tested.expectOutput(call(), 'a')
      await expectRejection('INVALID_OPTION', () => adapters.setScale('a', Number.NaN))
      await expectRejection('INVALID_OPTION', () => adapters.setScale('a', '2' as never))
      await expectRejection('ADAPTER_NOT_FOUND', () => adapters.setScale('b', 2))
      await tested.expectOutput(call(), 'a')
    },
  },
  {
    name: 'a merge uses the scales at the time of the call',
    async run(tested) {
      const { adapters, call } = await tested.subject('a')
      const load = awaitLater(adapters.loadAdapter(tested.adapters.headB, { name: 'headB' }))
      const merge = awaitLater(adapters.mergeAdapter('a'))
      adapters.setScale('a', 0.5)
      await load
      await merge
      await tested.expectOutput(call(), 'a')
      adapters.unmergeAdapter()
      await tested.expectOutput(call(), 'a*0.5')
    },
  },
  {
    name: 'a row has the scale of its adapter, or the scale that the row specifies',
    async run(tested) {
      const { adapters, call, callWithRows } = await tested.subject('a', 'b')
      const half = { name: 'a', scale: 0.5 }
      await tested.expectRows(adapters.withAdapterPerRow([half, 'a'], call), 'a*0.5', 'a')
      adapters.setScale('a', 0.5)
      await tested.expectRows(adapters.withAdapterPerRow(['a', { name: 'a', scale: 1 }], call), 'a*0.5', 'a')
      if (callWithRows) await tested.expectRows(callWithRows(['b', half]), 'b', 'a*0.5')
      const wrong = { name: 'a', scale: Number.POSITIVE_INFINITY }
      await expectRejection('INVALID_OPTION', () => adapters.withAdapterPerRow([wrong, 'a'], call))
    },
  },
  {
    name: 'a failed method changes nothing',
    async run(tested) {
      const { adapters, call } = await tested.subject('a')
      const expectUnchanged = async () => {
        expectEqual(adapters.listAdapters(), ['a'], 'listAdapters')
        expectEqual(adapters.activeAdapters, ['a'], 'activeAdapters')
        expectEqual(adapters.mergedAdapters, [], 'mergedAdapters')
        await tested.expectOutput(call(), 'a')
      }
      const { misplaced, b } = tested.adapters
      await expectRejection('MODULE_NOT_FOUND', () => adapters.loadAdapter(misplaced, { name: 'misplaced' }))
      await expectUnchanged()
      await expectRejection('ADAPTER_EXISTS', () => adapters.loadAdapter(b, { name: 'a' }))
      await expectRejection('ADAPTER_NOT_FOUND', () => adapters.setAdapter(['a', 'b']))
      await expectRejection('ADAPTER_NOT_FOUND', () => adapters.deleteAdapter('b'))
      await expectRejection('ADAPTER_NOT_FOUND', () => adapters.mergeAdapter(['a', 'b']))
      await expectRejection('INVALID_OPTION', () => adapters.setAdapter(null as never))
      await expectUnchanged()
      const twice = [b, b].map((adapter) => awaitLater(adapters.loadAdapter(adapter, { name: 'b' })))
      const [first, second] = await Promise.allSettled(twice)
      expectEqual([first?.status, second?.status], ['fulfilled', 'rejected'], 'two loads of one name')
      adapters.deleteAdapter('b')
      await expectUnchanged()
    },
  },
  ...ALL_METHODS.map(
    ([method, call]): Situation => ({
      name: `methods are rejected after the end of the model: ${method}`,
      async run(tested) {
        const subject = await tested.subject('a')
        await tested.end(subject)
        await expectRejection('INVALID_STATE', () => call(subject, tested))
      },
    }),
  ),
  {
    name: 'while an adapter is trained, methods work and its training continues',
    needs: 'train',
    async run(tested) {
      const { adapters, call, train } = await tested.subject('a', 'b')
      const coefficientsOf = async (name: string) => {
        const { modules } = await adapters.getAdapter(name)
        return [...(modules.get(tested.subjects.layer.module)?.coefficients ?? [])]
      }
      const b = await coefficientsOf('b')
      const states: number[][] = []
      await train?.(4, async (step) => {
        states.push(await coefficientsOf('a'))
        if (step === 0) {
          adapters.setAdapter('b')
          await tested.expectOutput(call(), 'b')
          await tested.expectRows(adapters.withAdapterPerRow(['b', null], call), 'b', 'base')
          await expectRejection('INVALID_STATE', () => adapters.deleteAdapter('a'))
          await expectRejection('INVALID_STATE', () => adapters.mergeAdapter('a'))
        }
        if (step === 1) {
          adapters.disableAdapters()
          await tested.expectBase(call())
          adapters.enableAdapters()
          await adapters.loadAdapter(tested.adapters.headA, { name: 'headA' })
          adapters.deleteAdapter('headA')
        }
      })
      expectEqual(await coefficientsOf('b'), b, 'the adapter that is not trained')
      const distinct = new Set(states.map((coefficients) => coefficients.join()))
      expectEqual(distinct.size, 4, 'the different states of the trained adapter after 4 steps')
      adapters.deleteAdapter('a')
      await tested.expectOutput(call(), 'b')
    },
  },
  {
    name: 'an adapter cannot be trained twice at the same time, nor while merged or disabled',
    needs: 'train',
    async run(tested) {
      const { adapters, train } = await tested.subject('a')
      let second: Promise<void> | undefined
      await train?.(2, () => {
        second ??= expectRejection('INVALID_STATE', () => train(1, () => undefined))
      })
      await second
      await adapters.mergeAdapter()
      await expectRejection('INVALID_STATE', () => train?.(1, () => undefined))
      adapters.disableAdapters()
      await expectRejection('INVALID_STATE', () => train?.(1, () => undefined))
      adapters.enableAdapters()
      adapters.setAdapter([])
      await expectRejection('INVALID_STATE', () => train?.(1, () => undefined))
    },
  },
  {
    name: 'a new adapter is trained: each call uses it as the last step has made it',
    needs: 'train',
    async run(tested) {
      const { module } = tested.subjects.layer
      const { adapters, call, train } = await tested.subject('a')
      await adapters.addAdapter('new', {
        nFrequency: 6,
        scaling: 60,
        targetModules: [module],
        initWeights: true,
      })
      adapters.setAdapter('new')
      const outputs = [await call()]
      await tested.expectOutput(outputs[0] as Float32Array, 'base')
      for (let step = 0; step < 2; step++) {
        await train?.(1, () => undefined)
        outputs.push(await call())
      }
      expectEqual(new Set(outputs.map(String)).size, 3, 'the different outputs of two steps')
      const trained = await adapters.getAdapter('new')
      const other = await tested.subject()
      await other.adapters.loadAdapter(trained, { name: 'trained' })
      tested.expectSame(outputs[2] as Float32Array, await other.call())
      adapters.setAdapter('a')
      await tested.expectOutput(call(), 'a')
      adapters.setAdapter('new')
      adapters.disableAdapters()
      await tested.expectBase(call())
    },
  },
  {
    name: 'a loaded adapter is trained further, and the adapter that was loaded stays as it is',
    needs: 'train',
    async run(tested) {
      const { a } = tested.adapters
      const { module } = tested.subjects.layer
      const { adapters, train, call } = await tested.subject('a')
      const start = [...(a.modules.get(module)?.coefficients ?? [])]
      await train?.(2, () => undefined)
      const trained = [...((await adapters.getAdapter('a')).modules.get(module)?.coefficients ?? [])]
      expectEqual(trained.length, start.length, 'the number of coefficients')
      expectEqual(
        trained.some((value, i) => value !== start[i]),
        true,
        'the coefficients changed',
      )
      expectEqual([...(a.modules.get(module)?.coefficients ?? [])], start, 'the loaded adapter')
      const output = await call()
      await adapters.mergeAdapter()
      tested.expectSame(await call(), output)
      adapters.deleteAdapter('a')
      await tested.expectOutput(call(), 'base')
      await adapters.loadAdapter(a, { name: 'a' })
      adapters.setAdapter('a')
      await tested.expectOutput(call(), 'a')
    },
  },
  {
    name: 'the model cannot end while an adapter is trained',
    needs: 'train',
    async run(tested) {
      const subject = await tested.subject('a', 'b')
      await subject.train?.(2, async (step) => {
        if (step === 0) await expectRejection('INVALID_STATE', () => subject.end())
      })
      subject.adapters.setAdapter('b')
      await tested.expectOutput(subject.call(), 'b')
    },
  },
  {
    name: 'after a training that fails, methods work',
    needs: 'train',
    async run(tested) {
      const { adapters, call, train } = await tested.subject('a', 'b')
      const fails = async () => {
        throw new Error('stop')
      }
      let message: unknown
      await unlessDeadlock(train?.(2, fails)).catch((error) => {
        message = (error as Error).message
      })
      expectEqual(message, 'stop', 'the error of the training')
      adapters.deleteAdapter('a')
      adapters.setAdapter('b')
      await adapters.mergeAdapter('b')
      await tested.expectOutput(call(), 'b')
    },
  },
]

/** Runs one situation, then ends all its subjects, even if it fails. */
export async function runSituation(situation: Situation, tested: PackageUnderTest): Promise<void> {
  try {
    await situation.run(tested)
  } finally {
    await tested.close()
  }
}

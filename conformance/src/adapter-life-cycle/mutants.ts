/** Models with one fault each, which test the suite. Each breaks a rule of the life cycle, and must fail in the situation of that rule. */
import { type Adapter, type Applied, type CallState, FourierFTError, type RowAdapter } from '@fourierft/core'
import {
  type LoadedAdapter,
  ReferenceAdapters,
  ReferenceHost,
  referenceSubject,
  type Session,
  type Weights,
  waitSomeTicks,
} from './reference-subject.js'
import type { AdapterSubject } from './subject.js'

export interface AdapterMutant {
  /** The end of the sentence "the suite catches a model in which …". */
  readonly fault: string
  /** A part of the name of a situation that catches it. */
  readonly caughtBy: string
  make(): AdapterSubject
}

/** Makes subjects whose host has a fault. */
function withHost(Host: new () => ReferenceHost): () => AdapterSubject {
  return () => referenceSubject(new Host())
}

/** Makes subjects whose methods have a fault. */
function withMethods(Adapters: new (host: ReferenceHost) => ReferenceAdapters): () => AdapterSubject {
  return () => {
    const host = new ReferenceHost()
    return referenceSubject(host, new Adapters(host))
  }
}

/** Makes subjects with some members replaced. */
function withMembers(replace: (host: ReferenceHost, subject: AdapterSubject) => Partial<AdapterSubject>) {
  return (): AdapterSubject => {
    const host = new ReferenceHost()
    const correct = referenceSubject(host)
    return { ...correct, ...replace(host, correct) }
  }
}

function isInvalidState(error: unknown): boolean {
  return FourierFTError.isInstance(error) && error.code === 'INVALID_STATE'
}

export const MUTANTS: readonly AdapterMutant[] = [
  {
    fault: 'a call reads its adapters when it ends',
    caughtBy: 'a call that has started',
    make: withMethods(
      class extends ReferenceAdapters {
        override async call(between: () => unknown = () => undefined, rows?: readonly RowAdapter[]) {
          await between()
          return super.call(undefined, rows)
        }
      },
    ),
  },
  {
    fault: 'the old session is closed while calls still use it',
    caughtBy: 'a call that has started keeps its adapters: loadAdapter',
    make: withHost(
      class extends ReferenceHost {
        override release(session: Session) {
          if (session !== this.session) session.isOpen = false
        }
      },
    ),
  },
  {
    fault: 'a rebuild forgets the earlier adapters',
    caughtBy: 'a failed method changes nothing',
    make: withHost(
      class extends ReferenceHost {
        override rebuild(adapters: readonly LoadedAdapter[]) {
          return super.rebuild(adapters.slice(-1))
        }
      },
    ),
  },
  {
    fault: 'a duplicate name counts twice',
    caughtBy: 'a duplicate name counts once',
    make: withMethods(
      class extends ReferenceAdapters {
        override async mergeAdapter(names?: string | readonly string[]) {
          const twice = Array.isArray(names) && names.length > new Set(names).size
          if (twice) for (const name of new Set(names)) this.setScale(name, 2)
          await super.mergeAdapter(names)
        }
      },
    ),
  },
  {
    fault: 'a merge uses the replaced layers of the first loaded adapter',
    caughtBy: 'replaced layers of the same adapters',
    make: withHost(
      class extends ReferenceHost {
        #first: Float64Array | undefined
        override match(name: string, adapter: Adapter) {
          const matched = super.match(name, adapter)
          this.#first ??= matched.head
          return matched
        }
        override async merge(added: readonly Applied<LoadedAdapter>[]) {
          const merged = await super.merge(added)
          return { ...merged, head: this.#first ?? merged.head }
        }
      },
    ),
  },
  {
    fault: 'a merge writes into the weights before it is accepted',
    caughtBy: 'a merge is rejected if a method is called before it ends',
    make: withHost(
      class extends ReferenceHost {
        readonly #original = this.base
        override async merge(added: readonly Applied<LoadedAdapter>[]) {
          this.base = this.weightsWith(added)
          await waitSomeTicks()
          return this.base
        }
        override discard() {
          this.base = this.#original.layer === this.base.layer ? this.base : this.#rounded()
        }
        /** Subtracts ΔW, which leaves rounding errors. */
        #rounded(): Weights {
          return { ...this.#original, layer: this.base.layer.map((w) => w * (1 + 2 ** -20)) }
        }
      },
    ),
  },
  {
    fault: 'an unmerged weight differs from the original',
    caughtBy: 'a second merge is rejected',
    make: withHost(
      class extends ReferenceHost {
        override discard() {
          this.base = { ...this.base, layer: this.base.layer.map((w) => w * (1 + 2 ** -18)) }
        }
      },
    ),
  },
  {
    fault: 'two merges at once both succeed',
    caughtBy: 'a second merge is rejected',
    make: withMethods(
      class extends ReferenceAdapters {
        override async mergeAdapter(names?: string | readonly string[]) {
          await super.mergeAdapter(names).catch((error) => {
            if (!isInvalidState(error)) throw error
          })
        }
      },
    ),
  },
  {
    fault: 'a merge ignores methods that are called before it ends',
    caughtBy: 'a merge is rejected if a method is called before it ends',
    make: withMethods(
      class extends ReferenceAdapters {
        override async mergeAdapter(names: string | readonly string[] = this.activeAdapters) {
          await super.mergeAdapter(names).catch((error) => {
            if (!isInvalidState(error)) throw error
          })
        }
      },
    ),
  },
  {
    fault: 'rows apply their adapters while adapters are disabled',
    caughtBy: 'while adapters are disabled',
    make: withMembers((_, { adapters, call, callWithRows }) => ({
      callWithRows: async (rows) => {
        const wasEnabled = adapters.enabled
        adapters.enableAdapters()
        const output = callWithRows?.(rows) ?? call()
        if (!wasEnabled) adapters.disableAdapters()
        return output
      },
    })),
  },
  {
    fault: 'rows are computed while adapters are merged',
    caughtBy: 'rows are rejected while merged',
    make: withMembers((_, { adapters, call, callWithRows }) => ({
      callWithRows: async (rows) =>
        (adapters.mergedAdapters.length > 0 ? call() : callWithRows?.(rows)) ?? call(),
    })),
  },
  {
    fault: 'mergedAdapters names a deleted adapter',
    caughtBy: 'a deleted adapter is neither active nor merged',
    make: withMethods(
      class extends ReferenceAdapters {
        #seen: readonly string[] = []
        override async mergeAdapter(names?: string | readonly string[]) {
          await super.mergeAdapter(names)
          this.#seen = super.mergedAdapters
        }
        override get mergedAdapters() {
          return this.#seen
        }
      },
    ),
  },
  {
    fault: 'a load waits for the calls that have started',
    caughtBy: 'a load inside a call ends before the call does',
    make: withHost(
      class extends ReferenceHost {
        override async rebuild(adapters: readonly LoadedAdapter[]) {
          const { session } = this
          for (let i = 0; session.calls > 0 && i < 100; i++) await waitSomeTicks()
          if (session.calls > 0) throw new Error('deadlock')
          await super.rebuild(adapters)
        }
      },
    ),
  },
  {
    fault: "the user's writes while merged are lost",
    caughtBy: 'writes while merged',
    make: withMembers((host, { adapters }) => ({
      writeWeights() {
        if (adapters.mergedAdapters.length === 0)
          host.base = { ...host.base, layer: host.base.layer.map(() => 0.5) }
      },
    })),
  },
  {
    fault: 'a merge forgets the scale',
    caughtBy: 'a new scale applies',
    make: withHost(
      class extends ReferenceHost {
        override merge(added: readonly Applied<LoadedAdapter>[]) {
          return super.merge(added.map(({ adapter }) => ({ adapter, scale: 1 })))
        }
      },
    ),
  },
  {
    fault: 'all rows have the replaced layers of the first row',
    caughtBy: 'rows have their own replaced layers',
    make: withHost(
      class extends ReferenceHost {
        override compute(state: CallState<LoadedAdapter, Weights>, session: Session) {
          const { choice, merged } = state
          if ('added' in choice) return super.compute(state, session)
          const head = choice.perRow[0]?.adapter.head
          const perRow = choice.perRow.map((row) => row && { ...row, adapter: { ...row.adapter, head } })
          return super.compute({ choice: { perRow }, merged }, session)
        }
      },
    ),
  },
  {
    fault: 'rows forget their scale',
    caughtBy: 'a row has the scale',
    make: withHost(
      class extends ReferenceHost {
        override compute(state: CallState<LoadedAdapter, Weights>, session: Session) {
          const { choice, merged } = state
          if ('added' in choice) return super.compute(state, session)
          const perRow = choice.perRow.map((row) => row && { ...row, scale: 1 })
          return super.compute({ choice: { perRow }, merged }, session)
        }
      },
    ),
  },
  {
    fault: 'getAdapter multiplies the coefficients by the scale',
    caughtBy: 'getAdapter returns the loaded adapter',
    make: withHost(
      class extends ReferenceHost {
        override adapterOf({ source }: LoadedAdapter) {
          const doubled = Array.from(source.modules, ([module, { coefficients }]) => [
            module,
            coefficients.map((c) => 2 * c),
          ])
          return source.withCoefficients(Object.fromEntries(doubled))
        }
      },
    ),
  },
  {
    fault: 'a load that fails closes the session',
    caughtBy: 'a failed method changes nothing',
    make: withHost(
      class extends ReferenceHost {
        override match(name: string, adapter: Adapter) {
          this.session = { serves: new Set(), calls: 0, isOpen: true }
          return super.match(name, adapter)
        }
      },
    ),
  },
  {
    fault: 'methods work after the end',
    caughtBy: 'after the end of the model',
    make: withMembers(() => ({ end: () => undefined })),
  },
  {
    fault: 'training follows setAdapter',
    caughtBy: 'while an adapter is trained',
    make: withMembers((_, { adapters, train }) => ({
      async train(steps, after) {
        for (let step = 0; step < steps; step++) await train?.(1, () => after(step))
        return adapters
      },
    })),
  },
  {
    fault: 'an adapter is trained twice at once',
    caughtBy: 'cannot be trained twice at the same time',
    make: withMembers((_, { train }) => ({
      train: async (steps, after) => train?.(steps, after)?.catch(() => undefined),
    })),
  },
  {
    fault: 'calls do not see what a training has changed',
    caughtBy: 'a new adapter is trained',
    make: withMethods(
      class extends ReferenceAdapters {
        override async trainSteps(steps: number, after: (step: number) => unknown) {
          const before = this.matchedAdapters().map((adapter) => [adapter, adapter.delta] as const)
          await super.trainSteps(steps, after)
          for (const [adapter, delta] of before) adapter.delta = delta
        }
      },
    ),
  },
  {
    fault: 'a training writes into the adapter that was loaded',
    caughtBy: 'a loaded adapter is trained further',
    make: withMethods(
      class extends ReferenceAdapters {
        override async trainSteps(steps: number, after: (step: number) => unknown) {
          await super.trainSteps(steps, after)
          for (const { source } of this.matchedAdapters())
            for (const { coefficients } of source.modules.values()) coefficients[0] = 1
        }
      },
    ),
  },
  {
    fault: 'the model ends during a training',
    caughtBy: 'the model cannot end while',
    make: withMembers((_, { end }) => ({
      end: async () => {
        await Promise.resolve(end()).catch(() => undefined)
      },
    })),
  },
  {
    fault: 'an adapter stays locked after a training that failed',
    caughtBy: 'after a training that fails',
    make: withMembers((_, { train }) => ({
      async train(steps, after) {
        let failure: unknown
        const never = new Promise<void>(() => undefined)
        let failed = () => {}
        const hasFailed = new Promise<void>((resolve) => {
          failed = resolve
        })
        const training = train?.(steps, async (step) => {
          try {
            await after(step)
          } catch (error) {
            failure = error
            failed()
            await never
          }
        })
        await Promise.race([training, hasFailed])
        if (failure !== undefined) throw failure
      },
    })),
  },
]

/** Faulty models: each breaks one rule of the life cycle and must fail in the situation that is about it. */
import type { Adapter, Applied, CallState, RowAdapter } from '@fourierft/core'
import {
  later,
  type Placed,
  ReferenceAdapters,
  ReferenceHost,
  referenceSubject,
  type Session,
  type Weights,
} from './reference-subject.js'
import type { AdapterSubject } from './subject.js'

export interface AdapterMutant {
  /** Completes "a model in which …". */
  readonly fault: string
  /** Part of the name of a situation that catches it. */
  readonly caught: string
  make(): AdapterSubject
}

/** A host with a fault. */
function hosted(Host: new () => ReferenceHost): () => AdapterSubject {
  return () => referenceSubject(new Host())
}

/** Verbs with a fault. */
function faulty(Adapters: new (host: ReferenceHost) => ReferenceAdapters): () => AdapterSubject {
  return () => {
    const host = new ReferenceHost()
    return referenceSubject(host, new Adapters(host))
  }
}

/** A subject with a fault. */
function subject(change: (host: ReferenceHost, subject: AdapterSubject) => Partial<AdapterSubject>) {
  return (): AdapterSubject => {
    const host = new ReferenceHost()
    const right = referenceSubject(host)
    return { ...right, ...change(host, right) }
  }
}

export const MUTANTS: readonly AdapterMutant[] = [
  {
    fault: 'a call reads its adapters when it ends',
    caught: 'a call that has begun',
    make: faulty(
      class extends ReferenceAdapters {
        override async call(between: () => unknown = () => undefined, rows?: readonly RowAdapter[]) {
          await between()
          return super.call(undefined, rows)
        }
      },
    ),
  },
  {
    fault: 'the old session is closed under its calls',
    caught: 'a call that has begun keeps its adapters: loadAdapter',
    make: hosted(
      class extends ReferenceHost {
        override release(session: Session) {
          if (session !== this.session) session.isOpen = false
        }
      },
    ),
  },
  {
    fault: 'a rebuild forgets the adapters that were there',
    caught: 'a failed verb leaves',
    make: hosted(
      class extends ReferenceHost {
        override rebuild(adapters: readonly Placed[]) {
          return super.rebuild(adapters.slice(-1))
        }
      },
    ),
  },
  {
    fault: 'a name that is given twice counts twice',
    caught: 'a name counts once',
    make: faulty(
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
    fault: 'the whole layers of a merge are those of the first adapter that was loaded',
    caught: 'whole layers of the same adapters',
    make: hosted(
      class extends ReferenceHost {
        #first: Float64Array | undefined
        override place(name: string, adapter: Adapter) {
          const placed = super.place(name, adapter)
          this.#first ??= placed.head
          return placed
        }
        override async merge(added: readonly Applied<Placed>[]) {
          const merged = await super.merge(added)
          return { ...merged, head: this.#first ?? merged.head }
        }
      },
    ),
  },
  {
    fault: 'a merge writes into the weights before it is accepted',
    caught: 'a merge is refused if a verb is called meanwhile',
    make: hosted(
      class extends ReferenceHost {
        readonly #original = this.base
        override async merge(added: readonly Applied<Placed>[]) {
          this.base = this.weightsWith(added)
          await later()
          return this.base
        }
        override discard() {
          this.base = this.#original.layer === this.base.layer ? this.base : this.#rounded()
        }
        /** Takes ΔW out again, as if that gave the weights back. */
        #rounded(): Weights {
          return { ...this.#original, layer: this.base.layer.map((w) => w * (1 + 2 ** -20)) }
        }
      },
    ),
  },
  {
    fault: 'an unmerged weight is not the original, bit for bit',
    caught: 'a second merge is refused',
    make: hosted(
      class extends ReferenceHost {
        override discard() {
          this.base = { ...this.base, layer: this.base.layer.map((w) => w * (1 + 2 ** -18)) }
        }
      },
    ),
  },
  {
    fault: 'two merges at once both succeed',
    caught: 'a second merge is refused',
    make: faulty(
      class extends ReferenceAdapters {
        override async mergeAdapter(names?: string | readonly string[]) {
          await super.mergeAdapter(names).catch((error) => {
            if (!String(error).includes('being merged')) throw error
          })
        }
      },
    ),
  },
  {
    fault: 'a merge ignores verbs that are called meanwhile',
    caught: 'a merge is refused if a verb is called meanwhile',
    make: faulty(
      class extends ReferenceAdapters {
        override async mergeAdapter(names: string | readonly string[] = this.activeAdapters) {
          await super.mergeAdapter(names).catch((error) => {
            if (!String(error).includes('were changed')) throw error
          })
        }
      },
    ),
  },
  {
    fault: 'rows have their adapters while adapters are disabled',
    caught: 'while adapters are disabled',
    make: subject((_, { adapters, call, callWithRows }) => ({
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
    caught: 'rows are refused while merged',
    make: subject((_, { adapters, call, callWithRows }) => ({
      callWithRows: async (rows) =>
        (adapters.mergedAdapters.length > 0 ? call() : callWithRows?.(rows)) ?? call(),
    })),
  },
  {
    fault: 'mergedAdapters names a deleted adapter',
    caught: 'a deleted adapter leaves both lists',
    make: faulty(
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
    fault: 'a load waits for the calls that have begun',
    caught: 'a load inside a call ends before the call does',
    make: hosted(
      class extends ReferenceHost {
        override async rebuild(adapters: readonly Placed[]) {
          const { session } = this
          for (let i = 0; session.calls > 0 && i < 100; i++) await later()
          if (session.calls > 0) throw new Error('a deadlock, cut short')
          await super.rebuild(adapters)
        }
      },
    ),
  },
  {
    fault: "the user's writes while merged are lost",
    caught: 'written while merged',
    make: subject((host, { adapters }) => ({
      writeWeights() {
        if (adapters.mergedAdapters.length === 0)
          host.base = { ...host.base, layer: host.base.layer.map(() => 0.5) }
      },
    })),
  },
  {
    fault: 'a merge forgets the strength',
    caught: 'a strength counts',
    make: hosted(
      class extends ReferenceHost {
        override merge(added: readonly Applied<Placed>[]) {
          return super.merge(added.map(({ adapter }) => ({ adapter, scale: 1 })))
        }
      },
    ),
  },
  {
    fault: 'rows forget their strength',
    caught: 'a row has the strength',
    make: hosted(
      class extends ReferenceHost {
        override compute(state: CallState<Placed, Weights>, session: Session) {
          const { choice, merged } = state
          if ('added' in choice) return super.compute(state, session)
          const perRow = choice.perRow.map((row) => row && { ...row, scale: 1 })
          return super.compute({ choice: { perRow }, merged }, session)
        }
      },
    ),
  },
  {
    fault: 'an adapter comes out with the strength multiplied in',
    caught: 'an adapter comes out as it went in',
    make: hosted(
      class extends ReferenceHost {
        override adapterOf({ source }: Placed) {
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
    caught: 'a failed verb leaves',
    make: hosted(
      class extends ReferenceHost {
        override place(name: string, adapter: Adapter) {
          this.session = { serves: new Set(), calls: 0, isOpen: true }
          return super.place(name, adapter)
        }
      },
    ),
  },
  {
    fault: 'verbs work after the end',
    caught: 'after its end',
    make: subject(() => ({ end: () => undefined })),
  },
  {
    fault: 'training follows setAdapter',
    caught: 'while an adapter is trained',
    make: subject((_, { adapters, train }) => ({
      async train(steps, after) {
        for (let step = 0; step < steps; step++) await train?.(1, () => after(step))
        return adapters
      },
    })),
  },
  {
    fault: 'an adapter is trained twice at once',
    caught: 'not trained twice at once',
    make: subject((_, { train }) => ({
      train: async (steps, after) => train?.(steps, after)?.catch(() => undefined),
    })),
  },
]

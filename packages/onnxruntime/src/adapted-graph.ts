/** One graph with branches and the session that runs it: turns a choice of adapters into what the graph's inputs are fed. */
import { FourierFTError } from '@fourierft/core'
import type { AttachedInputs, WeightInputs } from '@fourierft/onnx'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import { coefficientsOn, positionsOn } from './entries-union.js'
import type { PlacedAdapter, Plan, WholeLayer } from './layer-places.js'
import type { Ort } from './ort.js'

/** What one run applies: adapters that are added, or one (null: none) for each of equal parts of the batch. */
export type Choice =
  | { readonly added: readonly PlacedAdapter[] }
  | { readonly perRow: readonly (PlacedAdapter | null)[] }

export class AdaptedGraph {
  readonly session: InferenceSession
  readonly plan: Plan
  readonly #Tensor: Ort['Tensor']
  /** Absent: the model as it is. */
  readonly #inputs: AttachedInputs | undefined
  /** Of the adapters' inputs. */
  readonly #names: ReadonlySet<string>
  /** Runs only read what they are fed: a runtime in a worker, on the web, takes it away. */
  readonly #keepsFeeds: boolean
  /** Most runs choose what the one before them did. */
  #last: { readonly choice: Choice; readonly feeds: Readonly<Record<string, Tensor>> } | undefined
  #running = 0
  #retired: { done: () => void } | undefined

  constructor(session: InferenceSession, { Tensor, env }: Ort, plan: Plan, inputs?: AttachedInputs) {
    this.session = session
    this.plan = plan
    this.#Tensor = Tensor
    this.#inputs = inputs
    const weights = Array.from(inputs?.weights.values() ?? [], ({ weight, bias }) => [weight, bias ?? weight])
    this.#names = new Set(inputs && [inputs.rows, ...inputs.coefficients.values(), ...weights.flat()])
    this.#keepsFeeds = env.versions.node !== undefined
  }

  get isRunning(): boolean {
    return this.#running > 0
  }

  /** Whether the inputs of that name are the adapters'. */
  feeds(input: string): boolean {
    return this.#names.has(input)
  }

  /** Whether the graph has a branch and an entry for all that the adapter changes, and a place for all that it replaces. */
  serves({ layers, wholes }: PlacedAdapter): boolean {
    const hasBranches = Array.from(layers).every(([key, { entries }]) => {
      const branch = this.plan.branches.get(key)
      return branch !== undefined && !positionsOn(branch.entries, entries).includes(undefined)
    })
    return hasBranches && [...wholes.keys()].every((key) => this.plan.wholes.has(key))
  }

  /** How many rows the batch has; undefined where the feeds do not tell. */
  rowsIn(feeds: InferenceSession.FeedsType): number | undefined {
    const known = this.#inputs?.batchAxes
    for (const name of this.session.inputNames) {
      const dims = (feeds?.[name] as Tensor | undefined)?.dims
      const axis = known === undefined || known.size === 0 ? 0 : known.get(name)
      if (axis !== undefined && dims?.[axis] !== undefined) return dims[axis]
    }
    return undefined
  }

  /**
   * The adapters' inputs.
   *
   * @throws {FourierFTError} `UNSUPPORTED` for several adapters in one batch where a layer that they change does not have the batch
   */
  feedsFor(choice: Choice): Readonly<Record<string, Tensor>> {
    if (this.#last && isSame(this.#last.choice, choice)) return this.#last.feeds
    const feeds = this.#inputs ? this.#makeFeeds(choice, this.#inputs) : {}
    if (this.#keepsFeeds) this.#last = { choice, feeds }
    return feeds
  }

  #makeFeeds(choice: Choice, inputs: AttachedInputs): Record<string, Tensor> {
    const used =
      'added' in choice ? choice.added : [...new Set(choice.perRow.filter((each) => each !== null))]
    const rows = 'added' in choice ? [0] : this.#rowsOf(choice.perRow, used, inputs)
    const feeds: Record<string, Tensor> = {
      [inputs.rows]: new this.#Tensor('int64', BigInt64Array.from(rows, BigInt), [rows.length]),
    }
    for (const [key, { module, entries }] of this.plan.branches) {
      const parts = used.map(({ layers }) => {
        const layer = layers.get(key)
        return layer && coefficientsOn(entries, layer)
      })
      const adapters = 'added' in choice ? added(parts) : stacked(parts, rows.includes(-1), entries.n)
      const input = inputs.coefficients.get(module) as string
      feeds[input] = new this.#Tensor('float32', adapters, [adapters.length / entries.n, entries.n])
    }
    for (const [key, module] of this.plan.wholes) {
      const whole = used.find(({ wholes }) => wholes.has(key))?.wholes.get(key)
      Object.assign(feeds, this.#weightsOf(whole, inputs.weights.get(module) as WeightInputs))
    }
    return feeds
  }

  /** One for all, where all rows have the same. */
  #rowsOf(
    perRow: readonly (PlacedAdapter | null)[],
    used: readonly PlacedAdapter[],
    { rowless }: AttachedInputs,
  ): number[] {
    const rows = perRow.map((each) => (each === null ? -1 : used.indexOf(each)))
    if (new Set(rows).size === 1) return rows.slice(0, 1)
    for (const [key, { module }] of this.plan.branches) {
      const found = rowless.get(module)
      const adapter = found && used.find(({ layers }) => layers.has(key))
      if (!adapter) continue
      const reason =
        found.place === 'none'
          ? 'has the same input for all rows of the batch'
          : 'does not show where its rows are'
      throw new FourierFTError(
        'UNSUPPORTED',
        `adapters: module ${module}, which adapter '${adapter.name}' changes, ${reason} (node ${found.node}); use one adapter for the whole batch`,
        { option: 'adapters', module, received: adapter.name },
      )
    }
    return rows
  }

  /** Weights of none where the layer's own serve. */
  #weightsOf(whole: WholeLayer | undefined, names: WeightInputs): Record<string, Tensor> {
    const input = this.session.inputMetadata.find(({ name }) => name === names.weight)
    const inFeatures = input?.isTensor ? (input.shape[0] as number) : 0
    const outFeatures = whole ? whole.weight.length / inFeatures : 0
    const weight = new Float32Array(inFeatures * outFeatures)
    if (whole)
      for (let o = 0; o < outFeatures; o++)
        for (let i = 0; i < inFeatures; i++)
          weight[i * outFeatures + o] = whole.weight[o * inFeatures + i] as number
    return {
      [names.weight]: new this.#Tensor('float32', weight, [inFeatures, outFeatures]),
      ...(names.bias && {
        [names.bias]: new this.#Tensor('float32', Float32Array.from(whole?.bias ?? []), [outFeatures]),
      }),
    }
  }

  async run<T>(run: () => Promise<T>): Promise<T> {
    this.#running++
    try {
      return await run()
    } finally {
      this.#running--
      if (this.#running === 0) this.#retired?.done()
    }
  }

  /** Frees the session as soon as its last run is done. */
  async release(): Promise<void> {
    if (this.#running > 0)
      await new Promise<void>((done) => {
        this.#retired = { done }
      })
    await this.session.release()
  }
}

function isSame(one: Choice, other: Choice): boolean {
  const [a, b] = [one, other].map((choice) => ('added' in choice ? choice.added : choice.perRow)) as [
    readonly (PlacedAdapter | null)[],
    readonly (PlacedAdapter | null)[],
  ]
  return 'added' in one === 'added' in other && a.length === b.length && a.every((each, i) => each === b[i])
}

/** The sum of those that are there, in the first of them; nothing where none is. */
function added(parts: readonly (Float32Array | undefined)[]): Float32Array {
  const [first, ...others] = parts.filter((part) => part !== undefined)
  const sum = first ?? new Float32Array(0)
  for (const other of others)
    for (let l = 0; l < sum.length; l++) sum[l] = (sum[l] as number) + (other[l] as number)
  return sum
}

/** One row for each, zeros for those that do not change this layer and, last, for no adapter; nothing where none changes it. */
function stacked(parts: readonly (Float32Array | undefined)[], withNone: boolean, n: number): Float32Array {
  if (parts.every((part) => part === undefined)) return new Float32Array(0)
  const rows = new Float32Array((parts.length + (withNone ? 1 : 0)) * n)
  for (const [a, part] of parts.entries()) if (part) rows.set(part, a * n)
  return rows
}

/** One graph with branches and the session that runs it: turns a choice of adapters into what the graph's inputs are fed. */
import { type Applied, type Choice, FourierFTError, isSameChoice } from '@fourierft/core'
import type { AttachedInputs, WeightInputs } from '@fourierft/onnx'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import { coefficientsOn, positionsOn } from './entries-union.js'
import type { MatchedAdapter, Plan, WholeLayer } from './layer-places.js'
import type { Ort } from './ort.js'
import { type TakeTurn, turnsOf } from './turns.js'

/** What ONNX Runtime's `run` is called with. */
export interface RunArguments {
  readonly feeds: InferenceSession.FeedsType
  readonly fetches?: InferenceSession.FetchesType | undefined
  readonly options: InferenceSession.RunOptions
}

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
  readonly #takeTurn: TakeTurn
  /** Most runs choose what the one before them did. */
  #last:
    | { readonly choice: Choice<MatchedAdapter>; readonly feeds: Readonly<Record<string, Tensor>> }
    | undefined
  #running = 0
  #idle: (() => void) | undefined
  #released: Promise<void> | undefined

  constructor(session: InferenceSession, ort: Ort, plan: Plan, inputs?: AttachedInputs) {
    this.session = session
    this.plan = plan
    this.#Tensor = ort.Tensor
    this.#inputs = inputs
    const weights = Array.from(inputs?.weights.values() ?? [], ({ weight, bias }) => [weight, bias ?? weight])
    this.#names = new Set(inputs && [inputs.rows, ...inputs.coefficients.values(), ...weights.flat()])
    this.#keepsFeeds = ort.env.versions.node !== undefined
    this.#takeTurn = turnsOf(ort)
  }

  /** Whether the inputs of that name are the adapters'. */
  feeds(input: string): boolean {
    return this.#names.has(input)
  }

  /** Whether the graph has a branch and an entry for all that the adapter changes, and a place for all that it replaces. */
  serves({ layers, wholes }: MatchedAdapter): boolean {
    const hasBranches = Array.from(layers).every(([key, { entries }]) => {
      const branch = this.plan.branches.get(key)
      return branch !== undefined && !positionsOn(branch.entries, entries).includes(undefined)
    })
    return (
      hasBranches &&
      Array.from(wholes).every(([key, { isResized }]) => {
        const place = this.plan.wholes.get(key)
        return place !== undefined && (place.hasFreeWidth || !isResized)
      })
    )
  }

  /** How many rows the batch has; undefined where the feeds do not tell. */
  rowsIn(feeds: InferenceSession.FeedsType): number | undefined {
    const known = this.#inputs?.batchAxes
    for (const name of this.session.inputNames) {
      if (this.#names.has(name) || !Object.hasOwn(feeds ?? {}, name)) continue
      const axis = known === undefined || known.size === 0 ? 0 : known.get(name)
      const dims = (feeds[name] as Tensor | undefined)?.dims
      if (axis !== undefined && dims?.[axis] !== undefined) return dims[axis]
    }
    return undefined
  }

  /**
   * The adapters' inputs.
   *
   * @throws {FourierFTError} `UNSUPPORTED` for several adapters in one batch where a layer that they change does not have the batch
   */
  feedsFor(choice: Choice<MatchedAdapter>): Readonly<Record<string, Tensor>> {
    if (this.#last && isSameChoice(this.#last.choice, choice)) return this.#last.feeds
    const feeds = this.#inputs ? this.#makeFeeds(choice, this.#inputs) : {}
    if (this.#keepsFeeds) this.#last = { choice, feeds }
    return feeds
  }

  #makeFeeds(choice: Choice<MatchedAdapter>, inputs: AttachedInputs): Record<string, Tensor> {
    const used = 'added' in choice ? choice.added : differing(choice.perRow)
    const rows = 'added' in choice ? [0] : this.#rowsOf(choice.perRow, used, inputs)
    const feeds: Record<string, Tensor> = {
      [inputs.rows]: new this.#Tensor('int64', BigInt64Array.from(rows, BigInt), [rows.length]),
    }
    for (const [key, { module, entries }] of this.plan.branches) {
      const parts = used.map(({ adapter, scale }) => {
        const layer = adapter.layers.get(key)
        return layer && coefficientsOn(entries, layer, scale)
      })
      const adapters = 'added' in choice ? added(parts) : stacked(parts, rows.includes(-1), entries.n)
      const input = inputs.coefficients.get(module) as string
      feeds[input] = new this.#Tensor('float32', adapters, [adapters.length / entries.n, entries.n])
    }
    for (const [key, { module, inFeatures }] of this.plan.wholes) {
      const whole = used.find(({ adapter }) => adapter.wholes.has(key))?.adapter.wholes.get(key)
      Object.assign(feeds, this.#weightsOf(whole, inFeatures, inputs.weights.get(module) as WeightInputs))
    }
    return feeds
  }

  /** One for all, where all rows have the same. */
  #rowsOf(
    perRow: readonly (Applied<MatchedAdapter> | null)[],
    used: readonly Applied<MatchedAdapter>[],
    { rowless }: AttachedInputs,
  ): number[] {
    const rows = perRow.map((each) => used.findIndex((other) => isSame(each, other)))
    if (new Set(rows).size === 1) return rows.slice(0, 1)
    for (const [key, { module }] of this.plan.branches) {
      const found = rowless.get(module)
      const changing = found && used.find(({ adapter }) => adapter.layers.has(key))
      if (!changing) continue
      const { name } = changing.adapter
      const reason =
        found.position === 'none'
          ? 'has the same input for all rows of the batch'
          : 'does not show where its rows are'
      throw new FourierFTError(
        'UNSUPPORTED',
        `adapters: module ${module}, which adapter '${name}' changes, ${reason} (node ${found.node}); use one adapter for the whole batch`,
        { option: 'adapters', module, received: name },
      )
    }
    return rows
  }

  /** Weights of none where the layer's own serve. */
  #weightsOf(whole: WholeLayer | undefined, inFeatures: number, names: WeightInputs): Record<string, Tensor> {
    const outFeatures = whole ? whole.weight.length / inFeatures : 0
    const weight = new Float32Array(inFeatures * outFeatures)
    if (whole)
      for (let o = 0; o < outFeatures; o++)
        for (let i = 0; i < inFeatures; i++) weight[i * outFeatures + o] = whole.weight[o * inFeatures + i]
    return {
      [names.weight]: new this.#Tensor('float32', weight, [inFeatures, outFeatures]),
      ...(names.bias && {
        [names.bias]: new this.#Tensor('float32', Float32Array.from(whole?.bias ?? []), [outFeatures]),
      }),
    }
  }

  /** One run with what is chosen. */
  async run(
    choice: Choice<MatchedAdapter>,
    { feeds, fetches, options }: RunArguments,
  ): Promise<InferenceSession.ReturnType> {
    const all = { ...feeds, ...this.feedsFor(choice) }
    const { session } = this
    this.#running++
    try {
      return await this.#takeTurn(() =>
        fetches === undefined ? session.run(all, options) : session.run(all, fetches, options),
      )
    } finally {
      this.#running--
      if (this.#running === 0) this.#idle?.()
    }
  }

  /** Frees the session as soon as its last run is done. */
  release(): Promise<void> {
    this.#released ??= this.#release()
    return this.#released
  }

  async #release(): Promise<void> {
    if (this.#running > 0)
      await new Promise<void>((done) => {
        this.#idle = done
      })
    await this.#takeTurn(() => this.session.release())
  }
}

function isSame(one: Applied<MatchedAdapter> | null, other: Applied<MatchedAdapter>): boolean {
  return one?.adapter === other.adapter && one.scale === other.scale
}

/** Each adapter at each of its strengths once. */
function differing(rows: readonly (Applied<MatchedAdapter> | null)[]): Applied<MatchedAdapter>[] {
  const found: Applied<MatchedAdapter>[] = []
  for (const row of rows) if (row !== null && !found.some((other) => isSame(row, other))) found.push(row)
  return found
}

/** The sum of those that are there, in the first of them; nothing where none is. */
function added(parts: readonly (Float32Array | undefined)[]): Float32Array {
  const [first, ...others] = parts.filter((part) => part !== undefined)
  const sum = first ?? new Float32Array(0)
  for (const other of others) for (let l = 0; l < sum.length; l++) sum[l] = sum[l] + other[l]
  return sum
}

/** One row for each, zeros for those that do not change this layer and, last, for no adapter; nothing where none changes it. */
function stacked(parts: readonly (Float32Array | undefined)[], withNone: boolean, n: number): Float32Array {
  if (parts.every((part) => part === undefined)) return new Float32Array(0)
  const rows = new Float32Array((parts.length + (withNone ? 1 : 0)) * n)
  for (const [a, part] of parts.entries()) if (part) rows.set(part, a * n)
  return rows
}

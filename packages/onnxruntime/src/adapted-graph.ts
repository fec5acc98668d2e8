/** `AdaptedGraph`: one graph with slots for adapters, and the session that runs it. It makes feeds from the adapters of a call. */
import { type Applied, type Choice, FourierFTError, invalidState, isSameChoice } from '@fourierft/core'
import type { WeightInputs } from '@fourierft/onnx'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import type { AdapterSlots, SlotInputs } from './adapter-slots.js'
import { addCoefficients, positionsOn } from './entries-union.js'
import type { Ort } from './ort.js'
import { adapterInputs } from './parameter-inputs.js'
import { type Replacements, replacementsOf } from './replacements.js'
import type { ApplicableAdapter } from './session-adapter.js'
import { SessionRuns } from './session-runs.js'
import { transpose } from './transpose.js'

/** The arguments of ONNX Runtime's `run`. */
export interface RunArguments {
  readonly feeds: InferenceSession.FeedsType
  readonly fetches?: InferenceSession.FetchesType | undefined
  readonly options: InferenceSession.RunOptions
}

/**
 * The coefficients of one module: a row for each adapter, zeros if the adapter does not change the module, and a row of zeros if rows of the batch have no adapter. One
 * row if the adapters are added up; none if none of them changes the module.
 */
interface CoefficientRows {
  readonly count: number
  readonly n: number
  /** Adds the numbers to zeros. */
  write(target: Float32Array, offset: number): void
}

export class AdaptedGraph {
  readonly session: InferenceSession
  readonly slots: AdapterSlots
  readonly #Tensor: Ort['Tensor']
  /** Undefined for the original model. */
  readonly #inputs: SlotInputs | undefined
  readonly #adapterInputs: ReadonlySet<string>
  /** Whether several runs can use the same tensors. On the web, a runtime in a worker takes the memory of the tensors. */
  readonly #reusesFeeds: boolean
  readonly #runs: SessionRuns
  /** The feeds of the last run. Most runs use the same adapters as the run before. */
  #last:
    | { readonly choice: Choice<ApplicableAdapter>; readonly feeds: Readonly<Record<string, Tensor>> }
    | undefined

  constructor(session: InferenceSession, ort: Ort, slots: AdapterSlots, inputs?: SlotInputs) {
    this.session = session
    this.slots = slots
    this.#Tensor = ort.Tensor
    this.#inputs = inputs
    this.#adapterInputs = new Set(inputs && adapterInputs(inputs))
    this.#reusesFeeds = ort.env.versions.node !== undefined
    this.#runs = new SessionRuns(session, ort)
  }

  /** Returns whether an input belongs to adapters. */
  feeds(input: string): boolean {
    return this.#adapterInputs.has(input)
  }

  /** Returns whether the graph has slots for everything that the adapter changes or replaces. */
  serves({ layers, replacedModules }: Pick<ApplicableAdapter, 'layers' | 'replacedModules'>): boolean {
    const hasBranches = Array.from(layers).every(([key, { entries }]) => {
      const branch = this.slots.branches.get(key)
      return branch !== undefined && !positionsOn(branch.entries, entries).includes(undefined)
    })
    return (
      hasBranches &&
      Array.from(replacedModules).every(([key, { isResized }]) => {
        const layer = this.slots.replaceable.get(key)
        return layer !== undefined && (layer.hasFreeWidth || !isResized)
      })
    )
  }

  /** Returns the number of rows of the batch; undefined if the feeds do not show it. */
  rowsIn(feeds: InferenceSession.FeedsType): number | undefined {
    const batchAxes = this.#inputs?.batchAxes
    for (const name of this.session.inputNames) {
      if (this.#adapterInputs.has(name) || !Object.hasOwn(feeds ?? {}, name)) continue
      const axis = batchAxes === undefined || batchAxes.size === 0 ? 0 : batchAxes.get(name)
      const dims = (feeds[name] as Tensor | undefined)?.dims
      if (axis !== undefined && dims?.[axis] !== undefined) return dims[axis]
    }
    return undefined
  }

  /**
   * Returns the feeds of the adapters' inputs.
   *
   * @throws {FourierFTError} `UNSUPPORTED` for several adapters in one batch if the rows of a layer that they change or replace are unknown or equal, or if
   *   they replace a layer with layers of different sizes
   */
  feedsFor(choice: Choice<ApplicableAdapter>): Readonly<Record<string, Tensor>> {
    if (this.#last && isSameChoice(this.#last.choice, choice)) return this.#last.feeds
    if (this.#inputs === undefined && 'perRow' in choice && choice.perRow.some(changesLayers))
      throw invalidState(
        'the graph has no slots for adapters',
        'do not run calls after the model was given back',
      )
    const feeds = this.#inputs ? this.#makeFeeds(choice, this.#inputs) : {}
    if (this.#reusesFeeds) this.#last = { choice, feeds }
    return feeds
  }

  #makeFeeds(choice: Choice<ApplicableAdapter>, inputs: SlotInputs): Record<string, Tensor> {
    const used = 'added' in choice ? choice.added : distinct(choice.perRow)
    const rows = 'added' in choice ? [0] : this.#rowsOf(choice.perRow, used, inputs)
    const feeds: Record<string, Tensor> = { [inputs.rows]: this.#rowsFeed(rows) }
    const ofModules = new Map<string, CoefficientRows>()
    for (const [key, { module, entries }] of this.slots.branches) {
      const layers = used.map(({ adapter, scale }) => ({ layer: adapter.layers.get(key), scale }))
      const count = 'added' in choice ? 1 : rows.includes(-1) ? layers.length + 1 : layers.length
      ofModules.set(module, {
        // No adapter changes the layer: then it has no coefficients.
        count: layers.some(({ layer }) => layer) ? count : 0,
        n: entries.n,
        write(target, offset) {
          for (const [a, { layer, scale }] of layers.entries())
            if (layer)
              addCoefficients(
                target,
                'added' in choice ? offset : offset + a * entries.n,
                entries,
                layer,
                scale,
              )
        },
      })
    }
    Object.assign(feeds, this.#coefficientFeeds(ofModules, inputs))
    for (const [key, { module, inFeatures }] of this.slots.replaceable) {
      const replacements = replacementsOf(choice, key, module)
      if (replacements.rows.length > 1) checkHasRows(module, replacements.stacked[0]?.adapter, inputs)
      Object.assign(
        feeds,
        this.#weightFeeds(replacements, inFeatures, inputs.weights.get(module) as WeightInputs),
      )
    }
    return feeds
  }

  #coefficientFeeds(
    ofModules: ReadonlyMap<string, CoefficientRows>,
    { coefficients, joined }: SlotInputs,
  ): Record<string, Tensor> {
    /** The rows of several modules, one after another. */
    const floats = (modules: readonly CoefficientRows[], n: number) => {
      const count = modules.reduce((sum, module) => sum + module.count, 0)
      const data = new Float32Array(count * n)
      let row = 0
      for (const module of modules) {
        if (module.count > 0) module.write(data, row * n)
        row += module.count
      }
      return new this.#Tensor('float32', data, [count, n])
    }
    if (joined === undefined)
      return Object.fromEntries(
        Array.from(ofModules, ([module, rows]) => [
          coefficients.get(module) as string,
          floats([rows], rows.n),
        ]),
      )
    const feeds = joined.map(({ n, values, counts, modules }) => {
      const parts = modules.map((module) => ofModules.get(module) as CoefficientRows)
      const numbers = BigInt64Array.from(parts, ({ count }) => BigInt(count))
      return {
        [values]: floats(parts, n),
        [counts]: new this.#Tensor('int64', numbers, [modules.length]),
      }
    })
    return Object.assign({}, ...feeds)
  }

  /** Returns the index into `used` of each row's adapter, −1 for no adapter; a single index if it is the same for all rows. */
  #rowsOf(
    perRow: readonly (Applied<ApplicableAdapter> | null)[],
    used: readonly Applied<ApplicableAdapter>[],
    inputs: SlotInputs,
  ): number[] {
    const rows = perRow.map((row) => used.findIndex((other) => isSame(row, other)))
    if (new Set(rows).size === 1) return rows.slice(0, 1)
    for (const [key, { module }] of this.slots.branches)
      checkHasRows(module, used.find(({ adapter }) => adapter.layers.has(key))?.adapter, inputs)
    return rows
  }

  #rowsFeed(rows: readonly number[]): Tensor {
    return new this.#Tensor('int64', BigInt64Array.from(rows, BigInt), [rows.length])
  }

  /** Returns the weights `[A, in, out]`, the biases `[A, out]`, and the replacement of each row. A is 0 if all rows keep the layer of the model. */
  #weightFeeds(
    { stacked, rows }: Replacements,
    inFeatures: number,
    names: WeightInputs,
  ): Record<string, Tensor> {
    const [first] = stacked
    const outFeatures = first ? first.replaced.weight.length / inFeatures : 0
    const size = inFeatures * outFeatures
    const weights = new Float32Array(stacked.length * size)
    const biases = new Float32Array(stacked.length * outFeatures)
    for (const [a, { replaced }] of stacked.entries()) {
      transpose(replaced.weight, outFeatures, inFeatures, weights.subarray(a * size, (a + 1) * size))
      biases.set(replaced.bias ?? [], a * outFeatures)
    }
    const floats = (data: Float32Array, dims: readonly number[]) =>
      new this.#Tensor('float32', data, [stacked.length, ...dims])
    return {
      [names.rows]: this.#rowsFeed(rows),
      [names.weight]: floats(weights, [inFeatures, outFeatures]),
      ...(names.bias && { [names.bias]: floats(biases, [outFeatures]) }),
    }
  }

  /** Runs the model with the chosen adapters. */
  async run(
    choice: Choice<ApplicableAdapter>,
    { feeds, fetches, options }: RunArguments,
  ): Promise<InferenceSession.ReturnType> {
    const allFeeds = { ...feeds, ...this.feedsFor(choice) }
    const { session } = this
    return this.#runs.run(() =>
      fetches === undefined ? session.run(allFeeds, options) : session.run(allFeeds, fetches, options),
    )
  }

  /** Releases the session after its current runs. */
  release(): Promise<void> {
    return this.#runs.release()
  }
}

/**
 * Checks that rows of a layer can have different adapters.
 *
 * @param adapter one that changes or replaces the layer; undefined if none does
 */
function checkHasRows(module: string, adapter: ApplicableAdapter | undefined, { rowless }: SlotInputs): void {
  const layer = rowless.get(module)
  if (!layer || !adapter) return
  const { name } = adapter
  const reason =
    layer.position === 'none'
      ? 'has the same input for all rows of the batch'
      : 'does not show where its rows are'
  throw new FourierFTError(
    'UNSUPPORTED',
    `adapters: module ${module}, which adapter '${name}' changes, ${reason} (node ${layer.node})`,
    { advice: 'use one adapter for the whole batch', option: 'adapters', module, received: name },
  )
}

function changesLayers(row: Applied<ApplicableAdapter> | null): boolean {
  return row !== null && row.adapter.layers.size + row.adapter.replacedModules.size > 0
}

function isSame(a: Applied<ApplicableAdapter> | null, b: Applied<ApplicableAdapter>): boolean {
  return a?.adapter === b.adapter && a.scale === b.scale
}

/** Returns each pair of adapter and scale once. */
function distinct(rows: readonly (Applied<ApplicableAdapter> | null)[]): Applied<ApplicableAdapter>[] {
  const found: Applied<ApplicableAdapter>[] = []
  for (const row of rows) if (row !== null && !found.some((other) => isSame(row, other))) found.push(row)
  return found
}

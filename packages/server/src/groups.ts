/**
 * `Groups`: the graphs of a model. Adapters whose layers of one shape have the same entries share one graph, which has the layers of all of them. Others
 * get a graph of their own, so that one adapter with another seed does not make the coefficients of all others longer.
 */
import { type Entries, entriesDigest, FourierFTError } from '@fourierft/core'
import type { DividedAdapter, MergedParts, ModelPart, Serving } from '@fourierft/transformers/host'
import { ServerError } from './errors.js'
import type { PartJoining } from './probe.js'

/** One graph for each part of the model. */
export interface Group {
  /** Undefined for the model's own graphs. */
  graphs: MergedParts | undefined
  joinings: ReadonlyMap<ModelPart, PartJoining>
  /** An adapter for each set of layers that the graph was made for. */
  kinds: readonly DividedAdapter[]
  /** The calls that use the group. */
  users: number
  /** Time of the last use, in milliseconds of `performance.now`. */
  lastUse: number
  isClosed: boolean
}

export interface GroupsInit {
  readonly serving: Serving
  /** The most graphs, the model's own included. */
  readonly maxGroups: number
  /** Tests how runs of a graph are joined. @param adapter an adapter of the graph; undefined: the base model */
  readonly probe: (
    graphs: MergedParts | undefined,
    adapter: DividedAdapter | undefined,
  ) => Promise<ReadonlyMap<ModelPart, PartJoining>>
}

/** Milliseconds without a call after which a group can give its place to another. */
const IDLE_MS = 60_000

export class Groups {
  readonly #init: GroupsInit
  readonly #groups: Group[] = []
  #opening: Promise<unknown> = Promise.resolve()
  #isClosed = false

  private constructor(init: GroupsInit, first: Group) {
    this.#init = init
    this.#groups.push(first)
  }

  /** Tests the model's own graph. */
  static async open(init: GroupsInit): Promise<Groups> {
    return new Groups(init, newGroup(undefined, await init.probe(undefined, undefined), []))
  }

  get size(): number {
    return this.#groups.length
  }

  /** The group of the base model. */
  get base(): Group {
    return this.#groups[0] as Group
  }

  /**
   * Returns the group of an adapter. If it needs a graph of its own, the graph is opened, one at a time.
   *
   * @throws {ServerError} `too_many_groups`; and the errors of opening a session
   */
  async groupFor(adapter: DividedAdapter): Promise<Group> {
    const found = this.#find(adapter)
    if (found) return found
    const opened = this.#opening.then(() => this.#find(adapter) ?? this.#open(adapter))
    this.#opening = opened.catch(() => undefined)
    return opened
  }

  /** Closes the graphs, after those that are being opened. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#opening
    for (const group of this.#groups.splice(1)) {
      group.isClosed = true
      if (group.graphs) this.#init.serving.host.discard(group.graphs)
    }
  }

  #find(adapter: DividedAdapter): Group | undefined {
    const { host } = this.#init.serving
    return this.#groups.find(({ graphs, kinds }) =>
      graphs ? host.servedBy(graphs, adapter) : kinds.length > 0 && host.serves(adapter),
    )
  }

  async #open(adapter: DividedAdapter): Promise<Group> {
    if (this.#isClosed) throw new ServerError('shutting_down', 'the server is shutting down')
    const base = this.#groups[0] as Group
    if (base.kinds.length === 0) return this.#extend(base, adapter)
    const compatible = this.#groups.find(({ kinds }) => kinds.every((kind) => canShare(kind, adapter)))
    // One graph cannot have a branch of a layer that another adapter replaces by a layer of another size.
    if (compatible)
      return this.#extend(compatible, adapter).catch((error) => {
        if (FourierFTError.isInstance(error) && error.code === 'UNSUPPORTED') return this.#openOwn(adapter)
        throw error
      })
    return this.#openOwn(adapter)
  }

  /** Opens a new graph of a group, which also has the layers of this adapter. */
  async #extend(group: Group, adapter: DividedAdapter): Promise<Group> {
    const { serving, probe } = this.#init
    const kinds = [...group.kinds, adapter]
    const old = group.graphs
    if (group === this.base) await serving.host.rebuildBeside(kinds)
    else group.graphs = await serving.host.openGraphs(kinds)
    group.kinds = kinds
    // Runs that have begun keep the old graphs.
    if (old) serving.host.discard(old)
    group.joinings = await probe(group.graphs, adapter)
    return group
  }

  async #openOwn(adapter: DividedAdapter): Promise<Group> {
    const { serving, probe } = this.#init
    this.#makeRoom()
    const graphs = await serving.host.openGraphs([adapter])
    try {
      const group = newGroup(graphs, await probe(graphs, adapter), [adapter])
      this.#groups.push(group)
      return group
    } catch (error) {
      serving.host.discard(graphs)
      throw error
    }
  }

  /** Closes a group that nobody uses, if there is no room for another one. */
  #makeRoom(): void {
    const { maxGroups, serving } = this.#init
    if (this.#groups.length < maxGroups) return
    const [idle] = this.#groups
      .slice(1)
      .filter(({ users, lastUse }) => users === 0 && performance.now() - lastUse >= IDLE_MS)
      .sort((a, b) => a.lastUse - b.lastUse)
    if (idle === undefined)
      throw new ServerError(
        'too_many_groups',
        `the adapter has other entries, target modules or replaced layers than the adapters in use, which already need ${maxGroups} ` +
          'graphs of the model (maxGroups); train adapters with one random_loc_seed, n_frequency and list of target_modules, raise the limit, or ' +
          'try again when other adapters are no longer used',
        { param: 'model' },
      )
    idle.isClosed = true
    this.#groups.splice(this.#groups.indexOf(idle), 1)
    if (idle.graphs) serving.host.discard(idle.graphs)
  }
}

function newGroup(graphs: Group['graphs'], joinings: Group['joinings'], kinds: Group['kinds']): Group {
  return { graphs, joinings, kinds, users: 0, lastUse: performance.now(), isClosed: false }
}

/**
 * Whether two adapters can share a graph in which no coefficients become longer: their layers of one shape have the same entries. Adapters without a common
 * shape must have the same recipes, because others that have both shapes will follow.
 */
function canShare(a: DividedAdapter, b: DividedAdapter): boolean {
  const [ofA, ofB] = [entriesByShape(a), entriesByShape(b)]
  const common = [...ofA.keys()].filter((shape) => ofB.has(shape))
  if (common.length === 0) return isSame(recipesOf(a), recipesOf(b))
  return common.every((shape) => isSame(ofA.get(shape), ofB.get(shape)))
}

function isSame(a: ReadonlySet<string> = new Set(), b: ReadonlySet<string> = new Set()): boolean {
  return a.size === b.size && [...a].every((text) => b.has(text))
}

/** The digests of the entries of the layers of each shape. */
function entriesByShape(adapter: DividedAdapter): ReadonlyMap<string, ReadonlySet<string>> {
  const found = new Map<string, Set<string>>()
  for (const entries of entriesOf(adapter)) {
    const shape = String(entries.shape)
    found.set(shape, (found.get(shape) ?? new Set()).add(entriesDigest(entries)))
  }
  return found
}

function recipesOf(adapter: DividedAdapter): Set<string> {
  return new Set(
    Array.from(entriesOf(adapter), ({ recipe, n }) =>
      Object.entries({ ...recipe, n })
        .map(([key, value]) => `${key}=${value}`)
        .join(),
    ),
  )
}

function entriesOf({ shares }: DividedAdapter): Set<Entries> {
  return new Set(
    [...shares.values()].flatMap(({ layers }) => Array.from(layers.values(), ({ entries }) => entries)),
  )
}

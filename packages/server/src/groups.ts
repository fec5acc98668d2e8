/**
 * `Groups`: the graphs of a model. Adapters with the same entries, targets and replaced layers share one graph. Others get a graph of their own, so that one
 * adapter with another seed does not make the coefficients of all others longer.
 */
import type { DividedAdapter, MergedParts, ModelPart, Serving } from '@fourierft/transformers/host'
import { ServerError } from './errors.js'
import type { PartJoining } from './probe.js'

/** One graph for each part of the model. */
export interface Group {
  /** Undefined for the model's own graphs. */
  readonly graphs: MergedParts | undefined
  readonly joinings: ReadonlyMap<ModelPart, PartJoining>
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
/** The most adapters that may wait for their group to be opened. */
const MAX_OPENING = 64

export class Groups {
  readonly #init: GroupsInit
  readonly #groups: Group[] = []
  #opening: Promise<unknown> = Promise.resolve()
  #waiting = 0
  /** Whether the model's own graph has got the slots of the first adapter. */
  #hasSlots = false

  private constructor(init: GroupsInit, first: Group) {
    this.#init = init
    this.#groups.push(first)
  }

  /** Tests the model's own graph. */
  static async open(init: GroupsInit): Promise<Groups> {
    return new Groups(init, newGroup(undefined, await init.probe(undefined, undefined)))
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
    if (this.#waiting >= MAX_OPENING)
      throw new ServerError('queue_full', 'too many adapters wait for a graph', { retryAfter: 10 })
    this.#waiting++
    const opened = this.#opening.then(() => this.#find(adapter) ?? this.#open(adapter))
    this.#opening = opened.catch(() => undefined)
    try {
      return await opened
    } finally {
      this.#waiting--
    }
  }

  #find(adapter: DividedAdapter): Group | undefined {
    const { host } = this.#init.serving
    return this.#groups.find(({ graphs }) =>
      graphs ? host.servedBy(graphs, adapter) : this.#hasSlots && host.serves(adapter),
    )
  }

  async #open(adapter: DividedAdapter): Promise<Group> {
    const { serving, probe } = this.#init
    if (!this.#hasSlots) {
      await serving.host.rebuild([adapter])
      this.#hasSlots = true
      const group = newGroup(undefined, await probe(undefined, adapter))
      this.#groups[0] = group
      return group
    }
    this.#makeRoom()
    const graphs = await serving.host.openGraphs(adapter)
    try {
      const group = newGroup(graphs, await probe(graphs, adapter))
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

function newGroup(graphs: MergedParts | undefined, joinings: Group['joinings']): Group {
  return { graphs, joinings, users: 0, lastUse: performance.now(), isClosed: false }
}

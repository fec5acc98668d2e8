/** The adapters of a model in its sessions: each adapter is divided among them, and a call keeps the graphs of all of them to its end. */
import type {
  Adapter,
  AdapterHost,
  Applied,
  Choice,
  CreateAdapterOptions,
  FourierFTConfig,
  FourierFTOptions,
  MatchedAdapter,
} from '@fourierft/core'
import { findLinearLayers } from '@fourierft/onnx'
import { type ModuleNames, withoutAbsent } from '@fourierft/onnxruntime'
import {
  type NamedLayer,
  newAdapter,
  type OpenModel,
  type MatchedAdapter as PlacedShare,
  type SharedGraph,
} from '@fourierft/onnxruntime/host'
import type { InferenceSession } from 'onnxruntime-common'
import { divideAdapter, modulesOf } from './divide-adapter.js'
import type { ModelFiles } from './model-files.js'
import type { ModelPart, RunArguments } from './model-part.js'
import { namesOutside, type Place, placeModules } from './place-modules.js'

/** An adapter whose layers are found: its share of each session that has some of them. */
export interface DividedAdapter extends MatchedAdapter {
  /** As it was loaded. */
  readonly source: Adapter
  readonly shares: ReadonlyMap<ModelPart, PlacedShare>
}

/** Sessions with adapters in their weights; parts that the adapters do not change have none. */
export type MergedParts = ReadonlyMap<ModelPart, SharedGraph>

/** What a call has of each session. */
export type HeldParts = ReadonlyMap<
  ModelPart,
  { readonly graph: SharedGraph; readonly choice: Choice<PlacedShare> }
>

export class ModelHost implements AdapterHost<DividedAdapter, MergedParts> {
  readonly #parts: readonly ModelPart[]
  readonly #files: ModelFiles
  readonly #moduleNames: ModuleNames
  /** Where modules of adapters were found. */
  readonly #places = new Map<string, Place<ModelPart>>()

  constructor(parts: readonly ModelPart[], files: ModelFiles, moduleNames: ModuleNames) {
    this.#parts = parts
    this.#files = files
    this.#moduleNames = moduleNames
  }

  place(name: string, source: Adapter): Promise<DividedAdapter> {
    return this.#files.during(async () => {
      const { shares, opened } = await this.#divide(withoutAbsent(source, this.#moduleNames))
      const placed = new Map<ModelPart, PlacedShare>()
      for (const [part, share] of shares)
        placed.set(part, await part.host.place(name, share, opened.get(part)))
      const replaces = Array.from(placed, ([part, share]) =>
        Array.from(share.replaces, ([key, module]) => [`${part.name}:${key}`, module] as const),
      )
      return { source: source.withoutFiles(), shares: placed, replaces: new Map(replaces.flat()) }
    })
  }

  serves({ shares }: DividedAdapter): boolean {
    return Array.from(shares).every(([part, share]) => part.host.serves(share))
  }

  rebuild(adapters: readonly DividedAdapter[]): Promise<void> {
    return this.#files.during(async () => {
      for (const part of this.#parts) {
        const shares = sharesOf(part, adapters)
        if (!shares.every((share) => part.host.serves(share))) await part.host.rebuild(shares)
      }
    })
  }

  merge(added: readonly Applied<DividedAdapter>[]): Promise<MergedParts> {
    return this.#files.during(async () => {
      const merged = new Map<ModelPart, SharedGraph>()
      try {
        for (const part of this.#parts) {
          const shares = addedTo(part, added)
          if (shares.length > 0) merged.set(part, await part.host.merge(shares))
        }
      } catch (error) {
        this.discard(merged)
        throw error
      }
      return merged
    })
  }

  discard(merged: MergedParts): void {
    for (const [part, graph] of merged) part.host.discard(graph)
  }

  adapterOf({ source }: DividedAdapter): Adapter {
    return source
  }

  checkLive(): void {
    for (const { host } of this.#parts) host.checkLive()
  }

  /** What a call that begins now has of all sessions, until it drops them. */
  hold(choice: Choice<DividedAdapter>, merged: MergedParts | undefined): HeldParts {
    this.checkLive()
    return new Map(
      this.#parts.map((part) => [
        part,
        { graph: part.host.hold(merged?.get(part)), choice: shareOf(part, choice) },
      ]),
    )
  }

  drop(held: HeldParts): void {
    for (const { graph } of held.values()) graph.drop()
  }

  /** One run of a call. */
  async run(
    held: HeldParts,
    part: ModelPart,
    [feeds, fetches, options]: RunArguments,
  ): Promise<InferenceSession.ReturnType> {
    const own = held.get(part)
    if (own === undefined) throw new TypeError(`session ${part.name} is of another model`)
    return part.host.run(own.graph, own.choice, part.host.runArguments(feeds, fetches, options))
  }

  /** A fresh adapter for the layers of all sessions. */
  newAdapter(config: FourierFTConfig | FourierFTOptions, options: CreateAdapterOptions): Promise<Adapter> {
    return this.#files.during(async () => {
      const layers = new Map<string, NamedLayer>()
      const parts: { name: string; layers: ReadonlyMap<string, NamedLayer> }[] = []
      for (const { name, host } of this.#parts) parts.push({ name, layers: await host.namedLayers() })
      // Of two of one name the first counts.
      for (const [module, layer] of parts.toReversed().flatMap((part) => namesOutside(part, parts)))
        layers.set(module, layer)
      return newAdapter(layers, config, options)
    })
  }

  /**
   * A session for each part, for good, as transformers.js has them: with these adapters in their weights, or without any. All of them or
   * none: where one cannot be made, the others get their branches again.
   *
   * @param loaded all adapters
   */
  leave(
    added: readonly Applied<DividedAdapter>[],
    merged: MergedParts | undefined,
    loaded: readonly DividedAdapter[],
  ): Promise<ReadonlyMap<string, InferenceSession>> {
    return this.#files.during(async () => {
      const isKept = added.length > 0
      const sessions = new Map<string, InferenceSession>()
      const left: ModelPart[] = []
      try {
        for (const part of this.#parts) {
          if (isKept && merged?.has(part)) continue
          const shares = addedTo(part, added)
          left.push(part)
          const session =
            shares.length > 0 ? part.left(await part.host.unload(shares, undefined)) : await part.restored()
          sessions.set(part.name, session)
        }
      } catch (error) {
        for (const part of left) await this.#returned(part, loaded)
        throw error
      }
      for (const [part, graph] of merged ?? [])
        if (isKept) sessions.set(part.name, part.left(await part.host.unload([], graph)))
        else part.host.discard(graph)
      return sessions
    })
  }

  /** Branches again for a part that was left. A failure is the end of the part, which says so itself. */
  async #returned(part: ModelPart, loaded: readonly DividedAdapter[]): Promise<void> {
    const shares = sharesOf(part, loaded)
    if (!shares.every((share) => part.host.serves(share)))
      await part.host.rebuild(shares).catch(() => undefined)
  }

  /** Each part's share of an adapter, and the files that were read for it. */
  async #divide(adapter: Adapter): Promise<{
    readonly shares: ReadonlyMap<ModelPart, Adapter>
    readonly opened: ReadonlyMap<ModelPart, OpenModel>
  }> {
    const opened = new Map<ModelPart, OpenModel>()
    const [only, ...others] = this.#parts
    if (only && others.length === 0) return { shares: new Map([[only, adapter]]), opened }
    const missing = modulesOf(adapter).filter((module) => !this.#places.has(module))
    if (missing.length > 0) {
      const parts = []
      for (const part of this.#parts) {
        const open = await part.host.openModel()
        opened.set(part, open)
        parts.push({ part, name: part.name, layers: findLinearLayers(open.model) })
      }
      for (const [module, place] of placeModules(missing, parts, this.#moduleNames))
        this.#places.set(module, place)
    }
    return {
      shares: divideAdapter(adapter, (module) => this.#places.get(module) as Place<ModelPart>),
      opened,
    }
  }
}

function sharesOf(part: ModelPart, adapters: readonly DividedAdapter[]): PlacedShare[] {
  return adapters.flatMap(({ shares }) => shares.get(part) ?? [])
}

function addedTo(part: ModelPart, added: readonly Applied<DividedAdapter>[]): Applied<PlacedShare>[] {
  return added.flatMap(({ adapter, scale }) => {
    const share = adapter.shares.get(part)
    return share ? [{ adapter: share, scale }] : []
  })
}

/** What is chosen in one part. A part in which no row has an adapter does not look at its batch, which may be another one. */
function shareOf(part: ModelPart, choice: Choice<DividedAdapter>): Choice<PlacedShare> {
  if ('added' in choice) return { added: addedTo(part, choice.added) }
  const rows = choice.perRow.map((row) => row && (addedTo(part, [row])[0] ?? null))
  return rows.length > 0 && rows.every((row) => row === null) ? { added: [] } : { perRow: rows }
}

/**
 * `ModelHost`: applies adapters in the sessions of a model. Each adapter is divided among the sessions, and a call keeps the graphs of all sessions
 * until it ends.
 */
import {
  type Adapter,
  type AdapterHost,
  type Applied,
  type Choice,
  type CreateAdapterOptions,
  type FourierFTConfig,
  FourierFTError,
  type FourierFTOptions,
  type MatchedAdapter,
} from '@fourierft/core'
import {
  ENCODER_OUTPUT,
  findLinearLayers,
  HIDDEN_STATES,
  headModules,
  joinedInputName,
  joinModels,
  LOGITS,
} from '@fourierft/onnx'
import { type Loss, type ModuleNames, withoutAbsent } from '@fourierft/onnxruntime'
import {
  type ApplicableAdapter,
  type NamedLayer,
  newAdapter,
  type OpenModel,
  renamedKey,
  type SessionAdapter,
  type SharedGraph,
  type TrainingSession,
  type TrainingSettings,
} from '@fourierft/onnxruntime/host'
import type { InferenceSession } from 'onnxruntime-common'
import { type ClassLabels, labelsOf, numberedLabels } from './class-labels.js'
import { divideAdapter, modulesOf } from './divide-adapter.js'
import { locateModules, type ModuleLocation, namesInModel } from './locate-modules.js'
import { checkHead, modulesWithoutWeights } from './missing-head.js'
import type { ModelFiles } from './model-files.js'
import type { ModelPart, RunArguments } from './model-part.js'
import type { HeadLayers } from './new-head.js'
import { partsOf, wholeAdapter, withKeys } from './whole-adapter.js'

/** An adapter that is divided among the sessions: it has a share for each session that contains some of its modules. */
export interface DividedAdapter extends MatchedAdapter {
  /** The adapter as it was loaded, or as it was trained. */
  readonly whole: SessionAdapter
  readonly shares: ReadonlyMap<ModelPart, SessionAdapter>
  readonly labels: ClassLabels | undefined
}

/** The graphs with merged weights, of the parts that the merged adapters change. */
export type MergedParts = ReadonlyMap<ModelPart, SharedGraph>

/** For each part, the graph that a call uses and the adapters that it applies. */
export type CallSnapshot = ReadonlyMap<
  ModelPart,
  { readonly graph: SharedGraph; readonly choice: Choice<SessionAdapter> }
>

/** The most module names whose places are remembered: more than an adapter has. */
const MAX_LOCATIONS = 100_000

export class ModelHost implements AdapterHost<DividedAdapter, MergedParts> {
  readonly #parts: readonly ModelPart[]
  readonly #files: ModelFiles
  readonly #moduleNames: ModuleNames
  /** The locations of the modules of all adapters that were loaded, by module. */
  readonly #locations = new Map<string, ModuleLocation<ModelPart>>()

  constructor(parts: readonly ModelPart[], files: ModelFiles, moduleNames: ModuleNames) {
    this.#parts = parts
    this.#files = files
    this.#moduleNames = moduleNames
  }

  match(name: string, source: Adapter): Promise<DividedAdapter> {
    return this.#files.during(async () => {
      const { shares, openModels } = await this.#divide(withoutAbsent(source, this.#moduleNames))
      const matched = new Map<ModelPart, SessionAdapter>()
      for (const [part, share] of shares)
        matched.set(part, await part.host.match(name, share, openModels.get(part)))
      const whole = wholeAdapter({ name, source: source.withoutFiles() }, matched, this.#namesOf(source))
      const labels = labelsOf(source) ?? numberedLabels([...whole.replacedModules.values()])
      return { whole, shares: matched, labels, replaces: whole.replaces }
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

  /** As `rebuild`, but runs go on meanwhile: the old sessions close when the new ones are open. */
  async rebuildBeside(adapters: readonly DividedAdapter[]): Promise<void> {
    const held = this.#parts.map(({ host }) => host.hold(undefined))
    try {
      await this.rebuild(adapters)
    } finally {
      for (const graph of held) graph.drop()
    }
  }

  async merge(added: readonly Applied<DividedAdapter>[]): Promise<MergedParts> {
    this.#checkHeads(added)
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

  adapterOf({ whole }: DividedAdapter): Adapter {
    return whole.source
  }

  get isClosed(): boolean {
    return this.#parts.some((part) => part.isClosed)
  }

  checkLive(): void {
    for (const { host } of this.#parts) host.checkLive()
  }

  /** Returns the graphs and adapters of a call that starts now. `endCall` releases them. */
  beginCall(choice: Choice<DividedAdapter>, merged: MergedParts | undefined): CallSnapshot {
    this.checkLive()
    return new Map(
      this.#parts.map((part) => [
        part,
        { graph: part.host.hold(merged?.get(part)), choice: shareOf(part, choice) },
      ]),
    )
  }

  endCall(snapshot: CallSnapshot): void {
    for (const { graph } of snapshot.values()) graph.drop()
  }

  /**
   * Opens graphs for these adapters, and all that need the same slots, beside the model's own graphs: one for each part in which they have layers. `discard`
   * closes them.
   *
   * @throws {FourierFTError} as `rebuild`; then no graph stays open
   */
  openGraphs(adapters: readonly DividedAdapter[]): Promise<MergedParts> {
    return this.#files.during(async () => {
      const graphs = new Map<ModelPart, SharedGraph>()
      try {
        for (const part of this.#parts) {
          const shares = sharesOf(part, adapters)
          if (shares.length > 0) graphs.set(part, await part.host.openGraph(shares))
        }
      } catch (error) {
        this.discard(graphs)
        throw error
      }
      return graphs
    })
  }

  /** Makes the sessions run off JavaScript's thread, if the native kernel is used. */
  useNativeSessions(): Promise<void> {
    return this.#files.during(async () => {
      for (const { host } of this.#parts) await host.useNativeSession()
    })
  }

  /** Whether graphs of `openGraphs` can apply an adapter. */
  servedBy(graphs: MergedParts, { shares }: DividedAdapter): boolean {
    return Array.from(shares).every(([part, share]) => graphs.get(part)?.graph?.serves(share))
  }

  /**
   * Runs one part with an adapter for each row, or for each of equal parts of the batch.
   *
   * @param graph a graph of `openGraphs`; undefined: the model's own
   * @throws {FourierFTError} as `run`
   */
  async runRows(
    part: ModelPart,
    graph: SharedGraph | undefined,
    perRow: readonly (Applied<ApplicableAdapter> | null)[],
    [feeds, fetches, options]: RunArguments,
  ): Promise<InferenceSession.ReturnType> {
    const args = part.host.runArguments(feeds, fetches, options)
    if (part.head && fetchesLogits(args.fetches)) checkHead(part.head, { perRow })
    const held = part.host.hold(graph)
    try {
      return await part.host.run(held, { perRow }, args)
    } finally {
      held.drop()
    }
  }

  /**
   * Runs one session of a call.
   *
   * @throws {FourierFTError} `INVALID_STATE` if the call's adapters have no weights for the head that was added to the model; the errors of
   *   `SessionHost.run`
   */
  async run(
    snapshot: CallSnapshot,
    part: ModelPart,
    [feeds, fetches, options]: RunArguments,
  ): Promise<InferenceSession.ReturnType> {
    const partOfCall = snapshot.get(part)
    if (partOfCall === undefined) throw new TypeError(`session ${part.name} belongs to another model`)
    const args = part.host.runArguments(feeds, fetches, options)
    if (part.head && fetchesLogits(args.fetches)) checkHead(part.head, partOfCall.choice)
    return part.host.run(partOfCall.graph, partOfCall.choice, args)
  }

  /** Whether the model was exported without a head, and the adapter does not have all of its weights. */
  needsHead(adapter: DividedAdapter): boolean {
    return this.#parts.some(
      (part) =>
        part.head && modulesWithoutWeights(part.head, addedTo(part, [{ adapter, scale: 1 }])).length > 0,
    )
  }

  /** Checks that the model gives logits when these adapters are merged. */
  #checkHeads(added: readonly Applied<DividedAdapter>[]): void {
    for (const part of this.#parts) if (part.head) checkHead(part.head, { added: addedTo(part, added) })
  }

  /** Creates an adapter for the layers of all sessions. Without `targetModules`, these are PEFT's defaults for the model type. */
  async newAdapter(
    config: FourierFTConfig | FourierFTOptions,
    options: CreateAdapterOptions,
    modelType: string | undefined,
  ): Promise<Adapter> {
    const layers = new Map(await this.namedLayers())
    // An added head is not a part of the model: it has no weights until it is trained.
    for (const { head } of this.#parts)
      for (const module of head ? headModules(head) : []) layers.delete(module)
    return newAdapter(layers, config, options, { modelType })
  }

  /**
   * Returns the layers that make the model's head: those of an added head, or the one layer that computes the logits.
   *
   * @throws {FourierFTError} `UNSUPPORTED` if the layer cannot have another number of labels
   */
  async headLayers(): Promise<HeadLayers> {
    const layers = await this.namedLayers()
    const [head] = this.#parts.flatMap((part) => part.head ?? [])
    if (head) return { layers, output: head.output, missing: headModules(head) }
    const [output, ...others] = [...layers].filter(([, { outputs }]) => outputs.includes(LOGITS))
    if (output && others.length === 0) return { layers, output: output[0], missing: [] }
    throw new FourierFTError(
      'UNSUPPORTED',
      'the model cannot get a head for other labels: no linear layer directly computes its output logits',
      { advice: 'use the labels of the model, or export the model without its head' },
    )
  }

  /** Returns the layers of all sessions, and of an added head, under the names that they have in PyTorch's model with that head. */
  namedLayers(): Promise<ReadonlyMap<string, NamedLayer>> {
    return this.#files.during(async () => {
      const layers = new Map<string, NamedLayer>()
      const parts: { name: string; layers: ReadonlyMap<string, NamedLayer> }[] = []
      for (const { name, host } of this.#parts) parts.push({ name, layers: await host.namedLayers() })
      // If two layers have one name, the first one counts.
      for (const [module, layer] of parts.toReversed().flatMap((part) => namesInModel(part, parts)))
        layers.set(module, layer)
      return layers
    })
  }

  /**
   * Opens the training graph of an adapter: that of the session that computes the output of the loss. If this session is a decoder that reads an encoder's
   * output, the graph is that of both, also if the adapter has layers in one of them only: its inputs are always the same.
   *
   * @param adapter a whole adapter
   * @throws {FourierFTError} `INVALID_OPTION` if no session, or several, compute the output; `UNSUPPORTED` if the adapter has layers in another session;
   *   and the errors of `SessionHost.openTraining`
   */
  openTraining(adapter: SessionAdapter, settings: TrainingSettings): Promise<TrainingSession> {
    return this.#files.during(async () => {
      const { part, encoder } = this.#trainedParts(settings.loss.output, partsOf(adapter))
      const others = partsOf(adapter).filter((name) => name !== part.name && name !== encoder?.name)
      if (others.length > 0) throw inOtherParts(part, others, settings.loss)
      if (encoder) return openJoined({ encoder, decoder: part }, adapter, settings)
      return part.host.openTraining(
        withKeys(adapter, (_, key) => key),
        settings,
      )
    })
  }

  /**
   * Returns a plain session for each part, with these adapters in its weights. The caller has to release the sessions. If one of them cannot be
   * created, the other parts get their branches back. Closed parts are omitted.
   *
   * @param loaded all loaded adapters
   */
  async unload(
    added: readonly Applied<DividedAdapter>[],
    merged: MergedParts | undefined,
    loaded: readonly DividedAdapter[],
  ): Promise<ReadonlyMap<string, InferenceSession>> {
    if (added.length > 0) this.#checkHeads(added)
    return this.#files.during(async () => {
      // The model may have trainers in parts without adapters.
      await Promise.all(this.#parts.map(({ host }) => host.releaseTrainings()))
      const keepsMerged = added.length > 0
      const sessions = new Map<string, InferenceSession>()
      const unloadedParts: ModelPart[] = []
      try {
        for (const part of this.#parts) {
          if (part.isClosed || (keepsMerged && merged?.has(part))) continue
          const shares = addedTo(part, added)
          unloadedParts.push(part)
          const session =
            shares.length > 0
              ? part.withConfig(await part.host.unload(shares, undefined))
              : await part.restoreSession()
          sessions.set(part.name, session)
        }
      } catch (error) {
        for (const part of unloadedParts) await this.#restoreBranches(part, loaded)
        throw error
      }
      for (const [part, graph] of merged ?? [])
        if (keepsMerged) sessions.set(part.name, part.withConfig(await part.host.unload([], graph)))
        else part.host.discard(graph)
      return sessions
    })
  }

  /** Opens a session with branches again. If that fails, later calls of the part throw. */
  async #restoreBranches(part: ModelPart, loaded: readonly DividedAdapter[]): Promise<void> {
    const shares = sharesOf(part, loaded)
    if (!shares.every((share) => part.host.serves(share)))
      await part.host.rebuild(shares).catch(() => undefined)
  }

  /**
   * Returns the inputs of the training graph for a loss of this output.
   *
   * @throws {FourierFTError} `INVALID_OPTION` as {@link openTraining}
   */
  trainingInputs(output: string): readonly InferenceSession.ValueMetadata[] {
    const { part, encoder } = this.#trainedParts(output, [])
    if (!encoder) return part.host.signature.inputMetadata
    const { inputMetadata, inputNames } = encoder.host.signature
    const encoderInputs = new Set(inputNames)
    const ofDecoder = part.host.signature.inputMetadata.flatMap((input) => {
      const name = joinedInputName(input.name, encoderInputs)
      return name === undefined || encoderInputs.has(name) ? [] : [{ ...input, name }]
    })
    return [...inputMetadata, ...ofDecoder]
  }

  #trainedParts(output: string, preferred: readonly string[]) {
    const part = partWithOutput(this.#parts, output, preferred)
    const encoders = this.#parts.filter(
      (other) => other !== part && other.host.signature.outputNames.includes(ENCODER_OUTPUT),
    )
    const isDecoder = part.host.signature.inputNames.includes(HIDDEN_STATES)
    return { part, encoder: isDecoder && encoders.length === 1 ? encoders[0] : undefined }
  }

  /** Returns a function from a module's name in a part to its name in the adapter. */
  #namesOf(adapter: Adapter): (part: ModelPart, name: string) => string {
    const names = new Map<ModelPart, Map<string, string>>(this.#parts.map((part) => [part, new Map()]))
    for (const module of modulesOf(adapter)) {
      const location = this.#locations.get(module)
      if (location) names.get(location.part)?.set(location.name, module)
    }
    return (part, name) => names.get(part)?.get(name) ?? name
  }

  /** Returns each part's share of an adapter, and the models that were read to find the shares. */
  async #divide(adapter: Adapter): Promise<{
    readonly shares: ReadonlyMap<ModelPart, Adapter>
    readonly openModels: ReadonlyMap<ModelPart, OpenModel>
  }> {
    const openModels = new Map<ModelPart, OpenModel>()
    const [onlyPart, ...others] = this.#parts
    if (onlyPart && others.length === 0) return { shares: new Map([[onlyPart, adapter]]), openModels }
    const missing = modulesOf(adapter).filter((module) => !this.#locations.has(module))
    if (missing.length > 0) {
      const parts = []
      for (const part of this.#parts) {
        const open = await part.host.openModel()
        openModels.set(part, open)
        parts.push({ part, name: part.name, layers: findLinearLayers(open.model) })
      }
      for (const [module, location] of locateModules(missing, parts, this.#moduleNames))
        this.#locations.set(module, location)
      for (const oldest of this.#locations.keys()) {
        if (this.#locations.size <= MAX_LOCATIONS) break
        this.#locations.delete(oldest)
      }
    }
    return {
      shares: divideAdapter(adapter, (module) => this.#locations.get(module) as ModuleLocation<ModelPart>),
      openModels,
    }
  }
}

/** Whether a run returns the logits: without fetches it returns all outputs. */
function fetchesLogits(fetches: InferenceSession.FetchesType | undefined): boolean {
  return fetches === undefined || (Array.isArray(fetches) ? fetches.includes(LOGITS) : LOGITS in fetches)
}

/**
 * Returns the part that computes an output.
 *
 * @param preferred names of parts, if several parts compute it
 */
function partWithOutput(
  parts: readonly ModelPart[],
  output: string,
  preferred: readonly string[],
): ModelPart {
  const found = parts.filter(({ host }) => host.signature.outputNames.includes(output))
  const adapted = found.filter(({ name }) => preferred.includes(name))
  const [part, ...others] = adapted.length > 0 ? adapted : found
  if (part && others.length === 0) return part
  const sessions = parts.map(({ name, host }) => `${name} (${host.signature.outputNames.join(', ')})`)
  throw new FourierFTError(
    'INVALID_OPTION',
    `loss: ${part ? 'several sessions' : 'no session'} of the model compute${part ? '' : 's'} the output ${JSON.stringify(output)}; the sessions and their outputs: ${sessions.join('; ')}`,
    { option: 'loss', expected: sessions, received: output },
  )
}

/** Opens the training graph of an encoder and a decoder. */
async function openJoined(
  parts: { readonly encoder: ModelPart; readonly decoder: ModelPart },
  adapter: SessionAdapter,
  settings: TrainingSettings,
): Promise<TrainingSession> {
  const [encoder, decoder] = [await parts.encoder.host.openModel(), await parts.decoder.host.openModel()]
  if (encoder.folder !== decoder.folder)
    throw new FourierFTError(
      'UNSUPPORTED',
      `the weights of ${parts.encoder.name} are in ${encoder.folder}, those of ${parts.decoder.name} in ${decoder.folder}`,
      { advice: 'move the files of both sessions to one folder' },
    )
  const { model, encoderNames, decoderNames } = joinModels(encoder.model, decoder.model)
  const externalData = [...(encoder.externalData ?? []), ...(decoder.externalData ?? [])]
  const withNewKeys = withKeys(adapter, (part, key) =>
    renamedKey(key, part === parts.encoder.name ? encoderNames : decoderNames),
  )
  return parts.decoder.host.openTraining(withNewKeys, settings, {
    ...decoder,
    model,
    ...(externalData.length > 0 && { externalData }),
  })
}

function inOtherParts(part: ModelPart, others: readonly string[], { output }: Loss): FourierFTError {
  return new FourierFTError(
    'UNSUPPORTED',
    `the adapter has layers in ${others.join(' and ')}, but ${part.name} computes the output ${JSON.stringify(output)} of the loss`,
    { option: 'targetModules', received: others, advice: `adapt layers of ${part.name} only` },
  )
}

function sharesOf(part: ModelPart, adapters: readonly DividedAdapter[]): SessionAdapter[] {
  return adapters.flatMap(({ shares }) => shares.get(part) ?? [])
}

function addedTo(part: ModelPart, added: readonly Applied<DividedAdapter>[]): Applied<SessionAdapter>[] {
  return added.flatMap(({ adapter, scale }) => {
    const share = adapter.shares.get(part)
    return share ? [{ adapter: share, scale }] : []
  })
}

/** Returns the choice in one part. If no row has an adapter in it, the result has no rows, because the part may have another batch size. */
function shareOf(part: ModelPart, choice: Choice<DividedAdapter>): Choice<SessionAdapter> {
  if ('added' in choice) return { added: addedTo(part, choice.added) }
  const rows = choice.perRow.map((row) => row && (addedTo(part, [row])[0] ?? null))
  return rows.length > 0 && rows.every((row) => row === null) ? { added: [] } : { perRow: rows }
}

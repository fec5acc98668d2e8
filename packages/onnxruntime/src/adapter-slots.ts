/**
 * The slots of a graph: branches, which add ΔW·x, and layers that adapters can replace. One graph with the slots of several adapters can apply all
 * of them.
 */
import { type Applied, createLayer, type Entries, FourierFTError } from '@fourierft/core'
import {
  type AttachedInputs,
  attachBranches,
  type BakeOptions,
  bakeBranches,
  type ExternalFile,
  type JoinedCoefficients,
  type JoinOptions,
  joinCoefficients,
  type OnnxModel,
} from '@fourierft/onnx'
import { entriesUnion } from './entries-union.js'
import { layersByKey } from './matched-layers.js'
import type { SessionAdapter } from './session-adapter.js'

/** The keys of both maps are `MatchedLayer.key`. */
export interface AdapterSlots {
  /** The module name of each branch, and all entries that adapters have in its layer. */
  readonly branches: ReadonlyMap<string, { readonly module: string; readonly entries: Entries }>
  readonly replaceable: ReadonlyMap<string, ReplaceableLayer>
}

/** A layer that adapters can replace. */
export interface ReplaceableLayer {
  readonly module: string
  readonly inFeatures: number
  /** Whether the replacement may have another number of output features. */
  readonly hasFreeWidth: boolean
}

/** The slots of the original model. */
export const NO_SLOTS: AdapterSlots = { branches: new Map(), replaceable: new Map() }

/**
 * Returns slots for all of the adapters.
 *
 * @throws {FourierFTError} `UNSUPPORTED` if an adapter changes a layer that another adapter replaces with a layer of another size
 */
export function slotsFor(adapters: readonly SessionAdapter[]): AdapterSlots {
  const branches = new Map<string, { module: string; entries: Entries[] }>()
  for (const { layers } of adapters) {
    for (const [key, { name, entries }] of layers) {
      const branch = branches.get(key)
      if (branch) branch.entries.push(entries)
      else branches.set(key, { module: name, entries: [entries] })
    }
  }
  const replaceable = new Map<string, ReplaceableLayer>()
  for (const { name, replacedModules } of adapters)
    for (const [key, { module, inFeatures, isResized }] of replacedModules) {
      const existing = replaceable.get(key)
      replaceable.set(key, {
        module: existing?.module ?? module,
        inFeatures,
        hasFreeWidth: isResized || (existing?.hasFreeWidth ?? false),
      })
      const other = isResized && adapters.find(({ layers }) => layers.has(key))
      if (other)
        throw new FourierFTError(
          'UNSUPPORTED',
          `adapter '${name}' replaces layer '${module}' with a layer of another size, and adapter '${other.name}' changes the model's own layer`,
          { advice: 'load them into separate sessions', module, received: [name, other.name] },
        )
    }
  return {
    branches: new Map(
      Array.from(branches, ([key, { module, entries }]) => [key, { module, entries: entriesUnion(entries) }]),
    ),
    replaceable,
  }
}

/** The inputs of a model with slots. */
export interface SlotInputs extends AttachedInputs {
  /** The inputs that replace those for coefficients; undefined if each module has its own. */
  readonly joined: readonly JoinedCoefficients[] | undefined
}

/**
 * Adds slots to their model.
 *
 * @param join how the modules share inputs for their coefficients; undefined if each of them gets its own
 */
export function attachSlots(
  model: OnnxModel,
  slots: AdapterSlots,
  join: JoinOptions | undefined,
): SlotInputs {
  const layerAt = layersByKey(model)
  const branches = Array.from(slots.branches, ([key, branch]) => ({ ...branch, layer: layerAt(key) }))
  const replaceable = Array.from(slots.replaceable, ([key, layer]) => ({ ...layer, layer: layerAt(key) }))
  const inputs = attachBranches(model, branches, { replaceable })
  return { ...inputs, joined: join && joinCoefficients(model, inputs.coefficients, join) }
}

/**
 * Writes adapters into the weights of their model: scale · ΔW, and the modules that the adapters replace.
 *
 * @returns as `bakeBranches`
 */
export async function bakeAdapters(
  model: OnnxModel,
  added: readonly Applied<SessionAdapter>[],
  options: BakeOptions,
): Promise<ExternalFile | undefined> {
  const layerAt = layersByKey(model)
  const replacements = new Map(added.flatMap(({ adapter }) => [...adapter.replacedModules]))
  const keys = new Set([
    ...added.flatMap(({ adapter }) => [...adapter.layers.keys()]),
    ...replacements.keys(),
  ])
  const baked = Array.from(keys, (key) => {
    const whole = replacements.get(key)
    const adapters = added.flatMap(({ adapter, scale }) => {
      const layer = adapter.layers.get(key)
      return layer ? [createLayer({ ...layer, scaling: layer.scaling * scale })] : []
    })
    return { layer: layerAt(key), adapters, ...(whole && { whole }) }
  })
  return bakeBranches(model, baked, options)
}

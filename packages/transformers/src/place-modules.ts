/** Which of a model's sessions has which module of an adapter. */
import { FourierFTError, nearestNames } from '@fourierft/core'
import { type LinearLayer, matchLayers } from '@fourierft/onnx'
import type { ModuleNames } from '@fourierft/onnxruntime'

export interface PartLayers<Part> {
  readonly part: Part
  /** What transformers.js calls the session: `model`, `decoder_model_merged`, … */
  readonly name: string
  readonly layers: readonly LinearLayer[]
}

/** Where a module is. */
export interface Place<Part> {
  readonly part: Part
  /** What the part's file knows it by: the module's own name, but for encoders that were exported by themselves. */
  readonly name: string
}

interface Candidate<Part> extends Place<Part> {
  readonly session: string
  readonly distance: number
}

/**
 * A name that a session has as it is goes before one that differs in the root: `decoder.block.0` is not the `block.0` of an encoder.
 *
 * @throws {FourierFTError} `MODULE_NOT_FOUND` for a module that no session has, or several have equally well
 */
export function placeModules<Part>(
  modules: Iterable<string>,
  parts: readonly PartLayers<Part>[],
  moduleNames: ModuleNames,
): Map<string, Place<Part>> {
  const wanted = [...modules]
  const candidates = parts.map((part) => candidatesIn(part, wanted, moduleNames, isEncoder(part, parts)))
  const places = new Map<string, Place<Part>>()
  for (const module of wanted) {
    const found = candidates.flatMap((each) => each.get(module) ?? []).sort((a, b) => a.distance - b.distance)
    const [first, second] = found
    if (first && first.distance !== second?.distance)
      places.set(module, { part: first.part, name: first.name })
    else
      throw notPlaced(
        module,
        found.map(({ session }) => session),
        parts,
      )
  }
  return places
}

/** The modules that the session may have. */
function candidatesIn<Part>(
  { part, name: session, layers }: PartLayers<Part>,
  modules: readonly string[],
  map: ModuleNames,
  isEncoder: boolean,
): Map<string, Candidate<Part>> {
  // Names alone are compared here; the session compares what else there is.
  const decided = layers.map(({ undecided: _, ...layer }) => layer)
  const layersOf = (names: Iterable<string>) =>
    matchLayers(decided, Object.fromEntries(Array.from(names, (name) => [name, null])), { map }).matched
  const found = new Map<string, Candidate<Part>>()
  for (const [module, layer] of layersOf(modules))
    found.set(module, { part, name: module, session, distance: distanceOf(module, layer, session) })
  if (!isEncoder) return found
  const inside = new Map<string, string>()
  // What the user has named is nowhere else.
  for (const module of modules)
    if (!found.has(module) && !Object.hasOwn(map, module)) inside.set(insideEncoder(module), module)
  for (const name of layersOf(inside.keys()).keys()) {
    const module = inside.get(name)
    if (module !== undefined) found.set(module, { part, name, session, distance: 1 })
  }
  return found
}

/** `model` is the encoder where there is a decoder beside it. */
function isEncoder<Part>({ name }: PartLayers<Part>, parts: readonly PartLayers<Part>[]): boolean {
  if (name === 'encoder_model') return true
  return name === 'model' && parts.some((other) => other.name.startsWith('decoder_model'))
}

/** BART's `model.encoder.layers.0.fc1` is `layers.0.fc1` for the encoder, which is exported as a model of its own. */
function insideEncoder(module: string): string {
  return module.replace(/^(?:.*?\.)?encoder\./, '')
}

/** 0 for the same name; then one root more or less, least for the session that is called by the root; last a longer prefix. */
function distanceOf(module: string, layer: LinearLayer, session: string): number {
  const wanted = module.replace(/^base_model\.model\./, '')
  if (layer.module === wanted || layer.module === undefined) return 0
  if (layer.module.endsWith(`.${wanted}`) && layer.module.slice(0, -wanted.length - 1).includes('.')) return 3
  const [root = ''] = wanted.split('.')
  if (session.includes(root)) return 1
  // `model` is the encoder where there is a decoder beside it.
  return root === 'encoder' && session === 'model' ? 1 : 2
}

function notPlaced<Part>(
  module: string,
  found: readonly string[],
  parts: readonly PartLayers<Part>[],
): FourierFTError {
  const all = parts.flatMap(({ layers }) => layers.map((layer) => layer.module ?? layer.node.name))
  const nearest = nearestNames([module.replace(/^base_model\.model\./, '')], all)
  const reason =
    found.length > 0
      ? `the sessions ${found.join(' and ')} have it equally well`
      : `none of the model's sessions (${parts.map(({ name }) => name).join(', ')}) has it; the nearest: ${nearest.join(', ') || 'none'}`
  return new FourierFTError(
    'MODULE_NOT_FOUND',
    `module ${module}: ${reason}. The option moduleNames gives modules the names of their nodes, or null where the model does without them`,
    { module, expected: nearest, received: module },
  )
}

/** Which of a model's sessions has which module of an adapter. */
import { FourierFTError, nearestNames } from '@fourierft/core'
import { isPart, type LinearLayer, matchLayers, wordsOf } from '@fourierft/onnx'
import { adviceFor, type ModuleNames, readModuleNames } from '@fourierft/onnxruntime'

export interface PartLayers<Part> {
  readonly part: Part
  /** What transformers.js calls the session: `model`, `decoder_model_merged`, … */
  readonly name: string
  readonly layers: readonly LinearLayer[]
}

/** Where a module is. */
export interface Place<Part> {
  readonly part: Part
  /** What the part's file knows it by: the module's own name, but for parts of the model that were exported by themselves. */
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
  const candidates = parts.map((part) => candidatesIn(part, wanted, moduleNames, partOf(part, parts)))
  const places = new Map<string, Place<Part>>()
  const missing: string[] = []
  let sessions: string[] = []
  for (const module of wanted) {
    const found = candidates.flatMap((each) => each.get(module) ?? []).sort((a, b) => a.distance - b.distance)
    const [first, second] = found
    if (first && first.distance !== second?.distance)
      places.set(module, { part: first.part, name: first.name })
    else {
      if (missing.length === 0) sessions = found.map(({ session }) => session)
      missing.push(module)
    }
  }
  if (missing.length > 0) throw notPlaced(missing, sessions, parts, places.size > 0)
  return places
}

/** The modules that the session may have. */
function candidatesIn<Part>(
  { part, name: session, layers }: PartLayers<Part>,
  modules: readonly string[],
  map: ModuleNames,
  own: string | undefined,
): Map<string, Candidate<Part>> {
  // Names alone are compared here; the session compares what else there is.
  const decided = layers.map(({ undecided: _, ...layer }) => layer)
  const layersOf = (names: Iterable<string>) => matchLayers(decided, names, { map }).matched
  const nodeOf = readModuleNames(map)
  const found = new Map<string, Candidate<Part>>()
  for (const [module, layer] of layersOf(modules))
    if (own === undefined || nodeOf(module) !== undefined || !isOfOtherPart(module, layer, own))
      found.set(module, { part, name: module, session, distance: distanceOf(module, layer, session) })
  if (own === undefined) return found
  const inside = new Map<string, string>()
  for (const module of modules) {
    const name = insidePart(module, own)
    // What the user has named is nowhere else.
    if (name !== undefined && !found.has(module) && nodeOf(module) === undefined) inside.set(name, module)
  }
  for (const name of layersOf(inside.keys()).keys()) {
    const module = inside.get(name)
    if (module !== undefined) found.set(module, { part, name, session, distance: 1 })
  }
  return found
}

/** The part of the model that a session is, as its name tells: `encoder`, `decoder`, `vision`, `audio`, … */
function partOf(
  { name }: { readonly name: string },
  parts: readonly { readonly name: string }[],
): string | undefined {
  // `model` is the encoder where there is a decoder beside it.
  if (name === 'model')
    return parts.some((other) => other.name.startsWith('decoder_model')) ? 'encoder' : undefined
  const [word] = wordsOf(name)
  return word !== undefined && isPart(word) ? word : undefined
}

/** Whether the layer lacks a part of the module's name that is not the session's: a vision tower is not the `encoder` of a language model. */
function isOfOtherPart(module: string, layer: LinearLayer, own: string): boolean {
  const inFile = new Set(layer.module?.split('.'))
  return module
    .split('.')
    .some((segment) => isPart(segment) && !inFile.has(segment) && !isInside(wordsOf(segment), own))
}

/** The encoder and decoder of a language model are the model's. */
function isInside([word]: readonly string[], own: string): boolean {
  return word === own || word === 'language' || word === 'text'
}

/**
 * BART's `model.encoder.layers.0.fc1` is `layers.0.fc1` for the encoder, which is exported as a model of its own. undefined: the module is in
 * another part, or the name does not tell.
 */
function insidePart(module: string, part: string): string | undefined {
  const segments = module.split('.')
  for (const [i, segment] of segments.entries()) {
    const words = wordsOf(segment)
    if (words[0] === part) return segments.slice(i + 1).join('.') || undefined
    if (isPart(segment) && !isInside(words, part)) return undefined
  }
  return undefined
}

const DECODER = /^(.*?\.)?decoder\./

/** Layers of a session under the names that the whole model has for them: what {@link insidePart} takes away is put before them again. */
export function namesOutside<Layer>(
  part: { readonly name: string; readonly layers: ReadonlyMap<string, Layer> },
  parts: readonly { readonly name: string; readonly layers: ReadonlyMap<string, unknown> }[],
): [string, Layer][] {
  const layers = [...part.layers]
  if (partOf(part, parts) !== 'encoder') return layers
  const decoder = parts.flatMap((other) => [...other.layers.keys()]).find((name) => DECODER.test(name)) ?? ''
  const root = DECODER.exec(decoder)?.[1] ?? ''
  return layers.map(([name, layer]) => [
    /(^|\.)encoder\./.test(name) ? name : `${root}encoder.${name}`,
    layer,
  ])
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
  missing: readonly string[],
  sessions: readonly string[],
  parts: readonly PartLayers<Part>[],
  isPartlyFound: boolean,
): FourierFTError {
  const [module = ''] = missing
  const layers = parts.flatMap((part) => part.layers)
  const all = layers.map((layer) => layer.module ?? layer.node.name)
  const nearest = nearestNames([module.replace(/^base_model\.model\./, '')], all)
  const reason =
    sessions.length > 0
      ? `the sessions ${sessions.join(' and ')} have it equally well`
      : `none of the model's sessions (${parts.map(({ name }) => name).join(', ')}) has it; the nearest: ${nearest.join(', ') || 'none'}`
  const others = missing.length > 1 ? ` (${missing.length - 1} further modules are not found either)` : ''
  return new FourierFTError(
    'MODULE_NOT_FOUND',
    `module ${module}: ${reason}${others}. ${adviceFor(missing, layers, isPartlyFound)}`,
    { module, expected: nearest, received: missing },
  )
}

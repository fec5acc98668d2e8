/** `locateModules`: finds the session of a model that has each module of an adapter. */
import { FourierFTError, nearestNames } from '@fourierft/core'
import { isPart, type LinearLayer, matchLayers, wordsOf } from '@fourierft/onnx'
import { adviceFor, type ModuleNames, readModuleNames } from '@fourierft/onnxruntime'

export interface PartLayers<Part> {
  readonly part: Part
  /** transformers.js' name of the session: `model`, `decoder_model_merged`, … */
  readonly name: string
  readonly layers: readonly LinearLayer[]
}

export interface ModuleLocation<Part> {
  readonly part: Part
  /** The module's name in the part's file. It differs from the adapter's if a part of the model was exported by itself. */
  readonly name: string
}

interface Candidate<Part> extends ModuleLocation<Part> {
  readonly session: string
  readonly distance: number
}

/**
 * An equal name takes precedence over a name with another root: `decoder.block.0` is not the `block.0` of an encoder.
 *
 * @throws {FourierFTError} `MODULE_NOT_FOUND` for a module that no session has, or that several sessions match equally
 */
export function locateModules<Part>(
  modules: Iterable<string>,
  parts: readonly PartLayers<Part>[],
  moduleNames: ModuleNames,
): Map<string, ModuleLocation<Part>> {
  const wanted = [...modules]
  const candidates = parts.map((part) => candidatesIn(part, wanted, moduleNames, kindOf(part, parts)))
  const locations = new Map<string, ModuleLocation<Part>>()
  const missing: string[] = []
  let sessions: string[] = []
  for (const module of wanted) {
    const found = candidates.flatMap((each) => each.get(module) ?? []).sort((a, b) => a.distance - b.distance)
    const [first, second] = found
    if (first && first.distance !== second?.distance)
      locations.set(module, { part: first.part, name: first.name })
    else {
      if (missing.length === 0) sessions = found.map(({ session }) => session)
      missing.push(module)
    }
  }
  if (missing.length > 0) throw modulesNotFound(missing, sessions, parts, locations.size > 0)
  return locations
}

/** The modules that the session may have. */
function candidatesIn<Part>(
  { part, name: session, layers }: PartLayers<Part>,
  modules: readonly string[],
  map: ModuleNames,
  kind: string | undefined,
): Map<string, Candidate<Part>> {
  // Only names are compared here; the session's host also compares weights.
  const decided = layers.map(({ undecided: _, ...layer }) => layer)
  const layersOf = (names: Iterable<string>) => matchLayers(decided, names, { map }).matched
  const nodeOf = readModuleNames(map)
  const found = new Map<string, Candidate<Part>>()
  for (const [module, layer] of layersOf(modules))
    if (kind === undefined || nodeOf(module) !== undefined || !isOfOtherKind(module, layer, kind))
      found.set(module, { part, name: module, session, distance: distanceOf(module, layer, session) })
  if (kind === undefined) return found
  const byName = new Map<string, string>()
  for (const module of modules) {
    const name = nameInPart(module, kind)
    // A module that the user has named has no other name.
    if (name !== undefined && !found.has(module) && nodeOf(module) === undefined) byName.set(name, module)
  }
  for (const name of layersOf(byName.keys()).keys()) {
    const module = byName.get(name)
    if (module !== undefined) found.set(module, { part, name, session, distance: 1 })
  }
  return found
}

/** The kind of a session, by its name: `encoder`, `decoder`, `vision`, `audio`, … */
function kindOf(
  { name }: { readonly name: string },
  parts: readonly { readonly name: string }[],
): string | undefined {
  // `model` is the encoder if there is a decoder, too.
  if (name === 'model')
    return parts.some((other) => other.name.startsWith('decoder_model')) ? 'encoder' : undefined
  const [word] = wordsOf(name)
  return word !== undefined && isPart(word) ? word : undefined
}

/** Whether the module's name has a kind that neither the layer nor the session has: a vision tower is not the `encoder` of a language model. */
function isOfOtherKind(module: string, layer: LinearLayer, kind: string): boolean {
  const inFile = new Set(layer.module?.split('.'))
  return module
    .split('.')
    .some((segment) => isPart(segment) && !inFile.has(segment) && !isKind(wordsOf(segment), kind))
}

/** `language` and `text` fit every kind: the encoder and decoder of a language model. */
function isKind([word]: readonly string[], kind: string): boolean {
  return word === kind || word === 'language' || word === 'text'
}

/**
 * The module's name in a part that was exported as a model of its own: BART's `model.encoder.layers.0.fc1` is `layers.0.fc1` in the encoder.
 * Undefined if the module is in another part, or if its name does not show the part.
 */
function nameInPart(module: string, kind: string): string | undefined {
  const segments = module.split('.')
  for (const [i, segment] of segments.entries()) {
    const words = wordsOf(segment)
    if (words[0] === kind) return segments.slice(i + 1).join('.') || undefined
    if (isPart(segment) && !isKind(words, kind)) return undefined
  }
  return undefined
}

const DECODER = /^(.*?\.)?decoder\./

/** Layers of a session by the names that the whole model has for them: the inverse of {@link nameInPart}. */
export function namesInModel<Layer>(
  part: { readonly name: string; readonly layers: ReadonlyMap<string, Layer> },
  parts: readonly { readonly name: string; readonly layers: ReadonlyMap<string, unknown> }[],
): [string, Layer][] {
  const layers = [...part.layers]
  if (kindOf(part, parts) !== 'encoder') return layers
  const decoder = parts.flatMap((other) => [...other.layers.keys()]).find((name) => DECODER.test(name)) ?? ''
  const root = DECODER.exec(decoder)?.[1] ?? ''
  return layers.map(([name, layer]) => [
    /(^|\.)encoder\./.test(name) ? name : `${root}encoder.${name}`,
    layer,
  ])
}

/**
 * 0 for equal names; 1 or 2 if the names differ in the root, 1 if the session has the name of the root; 3 for a longer prefix.
 */
function distanceOf(module: string, layer: LinearLayer, session: string): number {
  const wanted = module.replace(/^base_model\.model\./, '')
  if (layer.module === wanted || layer.module === undefined) return 0
  if (layer.module.endsWith(`.${wanted}`) && layer.module.slice(0, -wanted.length - 1).includes('.')) return 3
  const [root = ''] = wanted.split('.')
  if (session.includes(root)) return 1
  // `model` is the encoder if there is a decoder, too.
  return root === 'encoder' && session === 'model' ? 1 : 2
}

function modulesNotFound<Part>(
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
      ? `several of the model's sessions have it (${sessions.join(', ')})`
      : `none of the model's sessions (${parts.map(({ name }) => name).join(', ')}) has it; the nearest: ${nearest.join(', ') || 'none'}`
  const others = missing.length > 1 ? ` (${missing.length - 1} further modules are not found either)` : ''
  return new FourierFTError('MODULE_NOT_FOUND', `module ${module}: ${reason}${others}`, {
    advice: adviceFor(missing, layers, isPartlyFound),
    module,
    expected: nearest,
    received: missing,
  })
}

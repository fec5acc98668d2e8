/** `locateModules`: finds, for each module of an adapter, the session of the model that contains it. */
import { FourierFTError, nearestNames } from '@fourierft/core'
import { isPart, type LinearLayer, matchLayers, wordsOf } from '@fourierft/onnx'
import { adviceFor, type ModuleNames, readModuleNames } from '@fourierft/onnxruntime'

/** The linear layers of a part of the model, which is one session. */
export interface PartLayers<Part> {
  readonly part: Part
  /** transformers.js' name of the session: `model`, `decoder_model_merged`, … */
  readonly name: string
  readonly layers: readonly LinearLayer[]
}

export interface ModuleLocation<Part> {
  readonly part: Part
  /** The module's name in the part's file. It differs from the name in the adapter if the part was exported as a separate model. */
  readonly name: string
}

interface Candidate<Part> extends ModuleLocation<Part> {
  readonly session: string
  readonly distance: number
}

/**
 * Returns the location of each module. An equal name takes precedence over a name with another root: `decoder.block.0` is not `block.0` of an
 * encoder.
 *
 * @throws {FourierFTError} `MODULE_NOT_FOUND` for a module that no session has, or that several sessions match equally
 */
export function locateModules<Part>(
  modules: Iterable<string>,
  parts: readonly PartLayers<Part>[],
  moduleNames: ModuleNames,
): Map<string, ModuleLocation<Part>> {
  const wanted = [...modules]
  const candidatesByPart = parts.map((part) => candidatesIn(part, wanted, moduleNames, kindOf(part, parts)))
  const locations = new Map<string, ModuleLocation<Part>>()
  const missing: string[] = []
  let sessions: string[] = []
  for (const module of wanted) {
    const found = candidatesByPart
      .flatMap((candidates) => candidates.get(module) ?? [])
      .sort((a, b) => a.distance - b.distance)
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

/** Returns the modules that the session may contain. */
function candidatesIn<Part>(
  { part, name: session, layers }: PartLayers<Part>,
  modules: readonly string[],
  map: ModuleNames,
  kind: string | undefined,
): Map<string, Candidate<Part>> {
  // This function compares only names. Later, the session's host also compares weights.
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
    // If the user has mapped a module to a node, its name is not changed.
    if (name !== undefined && !found.has(module) && nodeOf(module) === undefined) byName.set(name, module)
  }
  for (const name of layersOf(byName.keys()).keys()) {
    const module = byName.get(name)
    if (module !== undefined) found.set(module, { part, name, session, distance: 1 })
  }
  return found
}

/** Returns the kind of a session, the first word of its name: `encoder`, `decoder`, `vision`, `audio`, … */
function kindOf(
  { name }: { readonly name: string },
  parts: readonly { readonly name: string }[],
): string | undefined {
  // If there is also a decoder, `model` is the encoder.
  if (name === 'model')
    return parts.some((other) => other.name.startsWith('decoder_model')) ? 'encoder' : undefined
  const [word] = wordsOf(name)
  return word !== undefined && isPart(word) ? word : undefined
}

/** Whether the module's name contains a kind that is neither the session's nor in the layer's name, such as `vision_tower` in an encoder. */
function isOfOtherKind(module: string, layer: LinearLayer, kind: string): boolean {
  const segmentsInFile = new Set(layer.module?.split('.'))
  return module
    .split('.')
    .some((segment) => isPart(segment) && !segmentsInFile.has(segment) && !isKind(wordsOf(segment), kind))
}

/** Whether the first word of a name is this kind. `language` and `text` can contain every kind: encoder and decoder of a language model. */
function isKind([word]: readonly string[], kind: string): boolean {
  return word === kind || word === 'language' || word === 'text'
}

/**
 * Returns the module's name in a part that was exported as a separate model: BART's `model.encoder.layers.0.fc1` is `layers.0.fc1` in the encoder.
 * Returns undefined if the module is in another part, or if its name does not contain the part.
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

/** Returns the layers of a session with the names that they have in the whole model: the inverse of {@link nameInPart}. */
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
 * Returns 0 for equal names, 3 if the layer's name has a longer prefix, and otherwise, if the names differ in the root, 1 if the session has the
 * root's name, else 2.
 */
function distanceOf(module: string, layer: LinearLayer, session: string): number {
  const wanted = module.replace(/^base_model\.model\./, '')
  if (layer.module === wanted || layer.module === undefined) return 0
  if (layer.module.endsWith(`.${wanted}`) && layer.module.slice(0, -wanted.length - 1).includes('.')) return 3
  const [root = ''] = wanted.split('.')
  if (session.includes(root)) return 1
  // If there is also a decoder, `model` is the encoder.
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
      ? `several of the model's sessions contain it (${sessions.join(', ')})`
      : `none of the model's sessions (${parts.map(({ name }) => name).join(', ')}) contains it; the nearest names: ${nearest.join(', ') || 'none'}`
  const others = missing.length > 1 ? ` (${missing.length - 1} further modules were not found)` : ''
  return new FourierFTError('MODULE_NOT_FOUND', `module ${module}: ${reason}${others}`, {
    advice: adviceFor(missing, layers, isPartlyFound),
    module,
    expected: nearest,
    received: missing,
  })
}

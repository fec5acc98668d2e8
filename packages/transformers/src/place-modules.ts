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

/**
 * A name that a session has as it is goes before one that differs in the root: `decoder.block.0` is not the `block.0` of an encoder.
 *
 * @throws {FourierFTError} `MODULE_NOT_FOUND` for a module that no session has, or several have equally well
 */
export function placeModules<Part>(
  modules: Iterable<string>,
  parts: readonly PartLayers<Part>[],
  moduleNames: ModuleNames,
): Map<string, Part> {
  // PEFT's files hold no shapes: names alone are compared here, and shapes where the layers are.
  const wanted = Object.fromEntries(Array.from(modules, (module) => [module, [0, 0] as const]))
  const matches = parts.map(({ layers, ...others }) => {
    const erased = layers.map((layer) => ({ ...layer, outFeatures: 0, inFeatures: 0 }))
    return { ...others, matched: matchLayers(erased, wanted, { map: moduleNames }).matched }
  })
  const places = new Map<string, Part>()
  for (const module of Object.keys(wanted)) {
    const found = matches
      .flatMap(({ part, name, matched }) => {
        const layer = matched.get(module)
        return layer ? [{ part, name, distance: distanceOf(module, layer, name) }] : []
      })
      .sort((a, b) => a.distance - b.distance)
    const [first, second] = found
    if (first && first.distance !== second?.distance) places.set(module, first.part)
    else
      throw notPlaced(
        module,
        found.map(({ name }) => name),
        parts,
      )
  }
  return places
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

/** `moduleNames`: the user's names for modules of an adapter that the model's file does not name or does not contain. */
import { Adapter, savedModule } from '@fourierft/core'
import { type LinearLayer, type ModuleMap, readModuleMap } from '@fourierft/onnx'

/**
 * Maps a module of an adapter, or a pattern with `*`, to one of these:
 * - the name of its node (MatMul, Gemm, …), of the node's output or of its weight;
 * - a list of nodes, if the model calls the module more than once;
 * - null, if the file does not contain the module; the rest of the adapter is used. Exporters leave out modules that no output needs, such as a
 *   sentence encoder's `pooler.dense`.
 */
export type ModuleNames = ModuleMap

/**
 * Checks `moduleNames`, and returns a function from modules to nodes.
 *
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function readModuleNames(moduleNames: ModuleNames): ReturnType<typeof readModuleMap> {
  return readModuleMap(moduleNames, 'moduleNames')
}

/** Returns the adapter without the modules that `moduleNames` maps to null. */
export function withoutAbsent(adapter: Adapter, moduleNames: ModuleNames): Adapter {
  const { config, modules, savedTensors, baseTensors, ignoredTensors, metadata } = adapter
  const nodeOf = readModuleNames(moduleNames)
  const isPresent = (name: string) => nodeOf(name) !== null
  const changed = new Map([...modules].filter(([module]) => isPresent(module)))
  const saved = new Map([...savedTensors].filter(([tensor]) => isPresent(savedModule(tensor) ?? tensor)))
  if (changed.size === modules.size && saved.size === savedTensors.size) return adapter
  return new Adapter({ config, modules: changed, savedTensors: saved, baseTensors, ignoredTensors, metadata })
}

/**
 * Returns the advice for an error about missing modules. If the file contains a module under another name, null loses a part of the adapter without an
 * error. So null is advised only for modules that PyTorch never calls or that no output needs.
 *
 * @param layers the layers of the model
 * @param isPartlyFound whether other modules of the adapter were found
 */
export function adviceFor(
  missing: readonly string[],
  layers: readonly LinearLayer[],
  isPartlyFound: boolean,
): string {
  // `nn.MultiheadAttention` computes with the weight of its `out_proj`, in products that have the attention's name.
  const isUncalledProjection = (module: string) => {
    const attention = module.replace(/\.out_proj$/, '')
    return attention !== module && layers.some((layer) => haveSameEnding(layer.module, attention))
  }
  const uncalled = missing.find(
    (module) => /(?:^|\.)pooler\.dense$/.test(module) || isUncalledProjection(module),
  )
  const advice = 'map the modules to their nodes with the option moduleNames'
  return isPartlyFound && uncalled !== undefined
    ? `${advice}, or to null if PyTorch never calls them in this model, as may be the case for ${uncalled}`
    : advice
}

function haveSameEnding(name: string | undefined, other: string): boolean {
  return name !== undefined && (name === other || name.endsWith(`.${other}`) || other.endsWith(`.${name}`))
}

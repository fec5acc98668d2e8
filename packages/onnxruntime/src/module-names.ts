/** `moduleNames`: what users say about an adapter's modules that the model's file does not name, or does not have. */
import { Adapter, savedModule } from '@fourierft/core'
import { type LinearLayer, type ModuleMap, readModuleMap } from '@fourierft/onnx'

/**
 * Maps a module of an adapter, or a pattern with `*`, to the name of its node (MatMul, Gemm, …), of the node's output or of its weight; or to a
 * list of nodes if the model calls the module more than once; or to null if the file does not have the module and the adapter is to be used
 * without it. Exporters leave out modules that no output needs, such as a sentence encoder's `pooler.dense`.
 */
export type ModuleNames = ModuleMap

/** @throws {FourierFTError} `INVALID_OPTION` */
export function readModuleNames(moduleNames: ModuleNames): ReturnType<typeof readModuleMap> {
  return readModuleMap(moduleNames, 'moduleNames')
}

/** The adapter without the modules that `moduleNames` maps to null. */
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
 * The advice of an error about modules that were not found. Mapping a module to null drops it silently if the file has it under another name,
 * so this is advised only for modules that PyTorch never calls or that no output needs.
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
    return attention !== module && layers.some((layer) => isSameEnding(layer.module, attention))
  }
  const uncalled = missing.find(
    (module) => /(?:^|\.)pooler\.dense$/.test(module) || isUncalledProjection(module),
  )
  const advice = 'map modules to their nodes with the option moduleNames'
  return isPartlyFound && uncalled !== undefined
    ? `${advice}; null is for a module that PyTorch never calls in this model, as ${uncalled} may be`
    : advice
}

function isSameEnding(name: string | undefined, other: string): boolean {
  return name !== undefined && (name === other || name.endsWith(`.${other}`) || other.endsWith(`.${name}`))
}

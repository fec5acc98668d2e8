/** What users say about an adapter's modules where the file of the model does not: under what node they are, or that it has none. */
import { Adapter, savedModule } from '@fourierft/core'
import { type LinearLayer, type ModuleMap, readModuleMap } from '@fourierft/onnx'

/**
 * Module of an adapter, or a pattern with `*` → name of its node (MatMul, Gemm, …), of the node's output or of its weight, or all of its
 * nodes where the model calls it more than once; null: the file does not have it, and the adapter does without. Exporters leave out what no output needs, as a sentence encoder's `pooler.dense`.
 */
export type ModuleNames = ModuleMap

/** @throws {FourierFTError} `INVALID_OPTION` */
export function readModuleNames(moduleNames: ModuleNames): ReturnType<typeof readModuleMap> {
  return readModuleMap(moduleNames, 'moduleNames')
}

/** The adapter without the modules that are said to be in no file. */
export function withoutAbsent(adapter: Adapter, moduleNames: ModuleNames): Adapter {
  const { config, modules, savedTensors, baseTensors, ignoredTensors, metadata } = adapter
  const nodeOf = readModuleNames(moduleNames)
  const isThere = (name: string) => nodeOf(name) !== null
  const own = new Map([...modules].filter(([module]) => isThere(module)))
  const saved = new Map([...savedTensors].filter(([tensor]) => isThere(savedModule(tensor) ?? tensor)))
  if (own.size === modules.size && saved.size === savedTensors.size) return adapter
  return new Adapter({ config, modules: own, savedTensors: saved, baseTensors, ignoredTensors, metadata })
}

/**
 * What to do about modules that were not found. To do without one loses it in silence where the file has it under another name, so that
 * this is advised for those alone that PyTorch does not call or no output needs.
 *
 * @param layers those of the model
 * @param isPartlyFound whether other modules of the adapter were found
 */
export function adviceFor(
  missing: readonly string[],
  layers: readonly LinearLayer[],
  isPartlyFound: boolean,
): string {
  // `nn.MultiheadAttention` computes with the weight of its `out_proj`, in products of its own name.
  const isOwn = (module: string) => {
    const attention = module.replace(/\.out_proj$/, '')
    return attention !== module && layers.some((layer) => isSameEnding(layer.module, attention))
  }
  const idle = missing.find((module) => /(?:^|\.)pooler\.dense$/.test(module) || isOwn(module))
  const names = 'The option moduleNames gives modules the names of their nodes'
  return isPartlyFound && idle !== undefined
    ? `${names}; null is for a module that PyTorch never calls in this model, as ${idle} may be`
    : names
}

function isSameEnding(name: string | undefined, other: string): boolean {
  return name !== undefined && (name === other || name.endsWith(`.${other}`) || other.endsWith(`.${name}`))
}

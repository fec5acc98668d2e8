/** What users say about an adapter's modules where the file of the model does not: under what node they are, or that it has none. */
import { Adapter, savedModule } from '@fourierft/core'

/**
 * Module of an adapter → name of its node (MatMul, Gemm, …), or all of its nodes where the model calls it more than once; null: the file does not have it, and the adapter does without. Exporters leave
 * out what no output needs, as a sentence encoder's `pooler.dense`.
 */
export type ModuleNames = Readonly<Record<string, string | readonly string[] | null>>

/** The adapter without the modules that are said to be in no file. */
export function withoutAbsent(adapter: Adapter, moduleNames: ModuleNames): Adapter {
  const { config, modules, savedTensors, metadata } = adapter
  const isThere = (name: string) => !(Object.hasOwn(moduleNames, name) && moduleNames[name] === null)
  const own = new Map([...modules].filter(([module]) => isThere(module)))
  const saved = new Map([...savedTensors].filter(([tensor]) => isThere(savedModule(tensor) ?? tensor)))
  if (own.size === modules.size && saved.size === savedTensors.size) return adapter
  return new Adapter({ config, modules: own, savedTensors: saved, metadata })
}

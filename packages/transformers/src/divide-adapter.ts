/** `divideAdapter`: divides an adapter among the sessions of a model. */
import { type AdaptedModule, Adapter, savedModule, savedTensor, type Tensor } from '@fourierft/core'
import type { ModuleLocation } from './locate-modules.js'

/** Returns the modules that an adapter changes or replaces. */
export function modulesOf({ modules, savedTensors }: Adapter): string[] {
  return [...new Set([...modules.keys(), ...Array.from(savedTensors.keys(), moduleOf)])]
}

/**
 * Returns the share of each part.
 *
 * @param locationOf returns the part that has a module, and the module's name in that part
 */
export function divideAdapter<Part>(
  { config, modules, savedTensors, baseTensors, metadata }: Adapter,
  locationOf: (module: string) => ModuleLocation<Part>,
): Map<Part, Adapter> {
  type Share = { modules: Map<string, AdaptedModule>; savedTensors: Map<string, Tensor> }
  const shares = new Map<Part, Share>()
  const shareOf = (part: Part) => {
    const share = shares.get(part) ?? { modules: new Map(), savedTensors: new Map() }
    shares.set(part, share)
    return share
  }
  for (const [module, adapted] of modules) {
    const { part, name } = locationOf(module)
    shareOf(part).modules.set(name, adapted)
  }
  for (const [tensor, value] of savedTensors) {
    const { part, name } = locationOf(moduleOf(tensor))
    const hasModuleName = savedModule(tensor) !== undefined
    const tensorName = hasModuleName
      ? savedTensor(name, tensor.endsWith('.bias') ? 'bias' : 'weight')
      : tensor
    shareOf(part).savedTensors.set(tensorName, value)
  }
  return new Map(
    Array.from(shares, ([part, share]) => [part, new Adapter({ config, metadata, baseTensors, ...share })]),
  )
}

/** Returns the module of a saved tensor; the tensor's own name if PEFT does not write tensors of such names. */
function moduleOf(tensor: string): string {
  return savedModule(tensor) ?? tensor
}

/** An adapter for a model of several sessions, divided among them. */
import { type AdaptedModule, Adapter, savedModule, savedTensor, type Tensor } from '@fourierft/core'
import type { Place } from './place-modules.js'

/** The modules that an adapter changes or replaces. */
export function modulesOf({ modules, savedTensors }: Adapter): string[] {
  return [...new Set([...modules.keys(), ...Array.from(savedTensors.keys(), moduleOf)])]
}

/** @param placeOf tells where a module is, and the name that it has in its share */
export function divideAdapter<Part>(
  { config, modules, savedTensors, baseTensors, metadata }: Adapter,
  placeOf: (module: string) => Place<Part>,
): Map<Part, Adapter> {
  type Share = { modules: Map<string, AdaptedModule>; savedTensors: Map<string, Tensor> }
  const shares = new Map<Part, Share>()
  const shareOf = (part: Part) => {
    const share = shares.get(part) ?? { modules: new Map(), savedTensors: new Map() }
    shares.set(part, share)
    return share
  }
  for (const [module, adapted] of modules) {
    const { part, name } = placeOf(module)
    shareOf(part).modules.set(name, adapted)
  }
  for (const [tensor, value] of savedTensors) {
    const { part, name } = placeOf(moduleOf(tensor))
    const isWhole = savedModule(tensor) !== undefined
    const own = isWhole ? savedTensor(name, tensor.endsWith('.bias') ? 'bias' : 'weight') : tensor
    shareOf(part).savedTensors.set(own, value)
  }
  return new Map(
    Array.from(shares, ([part, share]) => [part, new Adapter({ config, metadata, baseTensors, ...share })]),
  )
}

/** The name of the tensor itself, where it is none that PEFT writes. */
function moduleOf(tensor: string): string {
  return savedModule(tensor) ?? tensor
}

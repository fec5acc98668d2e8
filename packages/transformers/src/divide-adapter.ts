/** An adapter for a model of several sessions, divided among them. */
import { type AdaptedModule, Adapter, type Tensor } from '@fourierft/core'

/** PEFT's name of a tensor that belongs to a module saved whole. */
const SAVED = /^base_model\.model\.(.+)\.(?:weight|bias)$/s

/** The modules that an adapter changes or replaces. */
export function modulesOf({ modules, savedTensors }: Adapter): string[] {
  return [...new Set([...modules.keys(), ...Array.from(savedTensors.keys(), savedModule)])]
}

/** @param partOf tells where a module is */
export function divideAdapter<Part>(
  { config, modules, savedTensors, metadata }: Adapter,
  partOf: (module: string) => Part,
): Map<Part, Adapter> {
  type Share = { modules: Map<string, AdaptedModule>; savedTensors: Map<string, Tensor> }
  const shares = new Map<Part, Share>()
  const shareOf = (part: Part) => {
    const share = shares.get(part) ?? { modules: new Map(), savedTensors: new Map() }
    shares.set(part, share)
    return share
  }
  for (const [name, module] of modules) shareOf(partOf(name)).modules.set(name, module)
  for (const [name, tensor] of savedTensors) shareOf(partOf(savedModule(name))).savedTensors.set(name, tensor)
  return new Map(Array.from(shares, ([part, share]) => [part, new Adapter({ config, metadata, ...share })]))
}

/** The name of the tensor itself, where it is none that PEFT writes. */
function savedModule(tensor: string): string {
  return SAVED.exec(tensor)?.[1] ?? tensor
}

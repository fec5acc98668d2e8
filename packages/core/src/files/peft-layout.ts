/** The names of the tensors in an adapter file: PEFT's, and this project's one addition. */

/** The role of a tensor, according to its name. */
export type TensorRole =
  | { readonly role: 'coefficients'; readonly module: string }
  | { readonly role: 'entries'; readonly set: string }
  /** A weight or bias of the model, trained or not. */
  | { readonly role: 'parameter'; readonly module: string }
  /** Not a tensor of a module. */
  | { readonly role: 'other' }

const ENTRIES_PREFIX = 'fourierft_entries.'
const PEFT_PREFIX = 'base_model.model.'
const PARAMETER = /^(?:base_model\.model\.)?(.+)\.[^.]+$/s
const SPECTRUM = /^(?:base_model\.model\.)?(.+)\.fourierft_spectrum(?:\.[^.]+)?$/s

/**
 * Returns the role of a tensor in PEFT's files, in the state dictionary of a live model (with the adapter's name at the end), or in that
 * of a model that PEFT only injected layers into (without the prefix).
 */
export function tensorRole(name: string): TensorRole {
  if (name.startsWith(ENTRIES_PREFIX)) return { role: 'entries', set: name.slice(ENTRIES_PREFIX.length) }
  const module = SPECTRUM.exec(name)?.[1]
  if (module !== undefined) return { role: 'coefficients', module }
  const owner = PARAMETER.exec(name)?.[1]
  return owner === undefined ? { role: 'other' } : { role: 'parameter', module: owner }
}

/** Returns the name of the tensor with a module's coefficients, as in PEFT. */
export function coefficientsTensor(module: string): string {
  return `${PEFT_PREFIX}${module}.fourierft_spectrum`
}

export function entriesTensor(set: string): string {
  return ENTRIES_PREFIX + set
}

const SAVED = /^base_model\.model\.(.+)\.(?:weight|bias)$/s

/** Returns the module of `modules_to_save` that the tensor would belong to; undefined if the tensor has another kind of name. */
export function savedModule(tensor: string): string | undefined {
  return SAVED.exec(tensor)?.[1]
}

const BASE = /^(?:base_model\.model\.)?(.+?)(?:\.base_layer)?\.(weight|bias)$/s

/**
 * Returns the module of the base model that the weight or bias belongs to. PEFT adds `base_layer` to the name if the module is adapted too.
 */
export function baseParameter(
  tensor: string,
): { readonly module: string; readonly kind: 'weight' | 'bias' } | undefined {
  const [, module, kind] = BASE.exec(tensor) ?? []
  return module === undefined ? undefined : { module, kind: kind === 'bias' ? 'bias' : 'weight' }
}

/** Returns the name of a tensor of a module of `modules_to_save`, as in PEFT. */
export function savedTensor(module: string, kind: 'weight' | 'bias'): string {
  return `${PEFT_PREFIX}${module}.${kind}`
}

/** What the tensors of an adapter file are called: PEFT's names, and this project's one addition. */

/** What the name of a tensor says. */
export type TensorRole =
  | { readonly role: 'coefficients'; readonly module: string }
  | { readonly role: 'entries'; readonly set: string }
  /** A weight or bias of the model, trained or not. */
  | { readonly role: 'parameter'; readonly module: string }
  /** No module has such a tensor. */
  | { readonly role: 'nameless' }

const ENTRIES_PREFIX = 'fourierft_entries.'
const PEFT_PREFIX = 'base_model.model.'
const PARAMETER = /^(?:base_model\.model\.)?(.+)\.[^.]+$/s
const SPECTRUM = /^(?:base_model\.model\.)?(.+)\.fourierft_spectrum(?:\.[^.]+)?$/s

/**
 * PEFT saves without the adapter's name at the end; state dictionaries of a live model have it, and those of a model that PEFT only
 * injected layers into lack the prefix. Both are understood.
 */
export function tensorRole(name: string): TensorRole {
  if (name.startsWith(ENTRIES_PREFIX)) return { role: 'entries', set: name.slice(ENTRIES_PREFIX.length) }
  const module = SPECTRUM.exec(name)?.[1]
  if (module !== undefined) return { role: 'coefficients', module }
  const owner = PARAMETER.exec(name)?.[1]
  return owner === undefined ? { role: 'nameless' } : { role: 'parameter', module: owner }
}

/** The tensor of a module's coefficients, as PEFT saves it. */
export function coefficientsTensor(module: string): string {
  return `${PEFT_PREFIX}${module}.fourierft_spectrum`
}

export function entriesTensor(set: string): string {
  return ENTRIES_PREFIX + set
}

const SAVED = /^base_model\.model\.(.+)\.(?:weight|bias)$/s

/** The module that is saved whole, to which the tensor belongs; undefined for a tensor of another name. */
export function savedModule(tensor: string): string | undefined {
  return SAVED.exec(tensor)?.[1]
}

const BASE = /^(?:base_model\.model\.)?(.+?)(?:\.base_layer)?\.(weight|bias)$/s

/**
 * The module of the base model whose weight or bias the tensor is. PEFT puts `base_layer` between them where the module is adapted too.
 */
export function baseParameter(
  tensor: string,
): { readonly module: string; readonly kind: 'weight' | 'bias' } | undefined {
  const [, module, kind] = BASE.exec(tensor) ?? []
  return module === undefined ? undefined : { module, kind: kind === 'bias' ? 'bias' : 'weight' }
}

/** A tensor of a module that is saved whole, as PEFT saves it. */
export function savedTensor(module: string, kind: 'weight' | 'bias'): string {
  return `${PEFT_PREFIX}${module}.${kind}`
}

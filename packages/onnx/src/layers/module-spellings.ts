/** The names that one module has in files of different tools and versions, for modules whose own name is not in the file. */
import { isPart } from './model-parts.js'
import { MAX_NAME_LENGTH } from './module-name.js'

/** transformers before 4.52 → since then. The head of a vision-language model used to belong to its language model. */
const VISION_LANGUAGE: readonly Rule[] = [
  [/^language_model\.model\./, 'model.language_model.'],
  [/^language_model\.lm_head$/, 'lm_head'],
]

/** The language model inside a vision-language model → the same model in its own file. */
const LANGUAGE: readonly Rule[] = [
  [/^(?:model\.)?(?:language_model|text_model)\.(?=layers\.\d+\.)/, 'model.'],
]

/**
 * transformers → the builder of onnxruntime-genai.
 *
 * @see src/python/py/models/builders/base.py there
 */
const BUILDER: readonly Rule[] = [
  [/((?:^|\.)layers\.\d+)\.self_attn\.(?=(?:q|k|v|qkv|o)_proj$)/, '$1.attn.'],
  // Phi; Whisper and LFM2; InternLM2.
  [/((?:^|\.)layers\.\d+)\.(?:self_attn\.(?:dense|out_proj)|attention\.wo)$/, '$1.attn.o_proj'],
  [/((?:^|\.)layers\.\d+)\.feed_forward\.w1$/, '$1.mlp.gate_proj'],
  [/((?:^|\.)layers\.\d+)\.feed_forward\.w3$/, '$1.mlp.up_proj'],
  [/((?:^|\.)layers\.\d+)\.feed_forward\.w2$/, '$1.mlp.down_proj'],
  [/((?:^|\.)layers\.\d+)\.block_sparse_moe\.gate$/, '$1.moe.gate'],
]

type Rule = readonly [pattern: RegExp, replacement: string]

const apply = (rules: readonly Rule[], name: string) =>
  rules.reduce((text, [pattern, replacement]) => text.replace(pattern, replacement), name)

/**
 * Returns the possible names of an adapter's module in a file, beginning with the module's own name.
 *
 * @param isInFile whether the file contains a part of the model
 */
export function spellingsOf(name: string, isInFile: (part: string) => boolean): string[] {
  if (name.length > MAX_NAME_LENGTH) return [name]
  const spellings = fileSpellingsOf(name)
  return withBuilders(isInFile('language_model') ? spellings : spellings.slice(0, 2))
}

/** Returns the possible names in the file of one part of the model. They are compared whole: `layers.0` of `encoder` is not `decoder.layers.0`. */
export function partSpellingsOf(name: string, isInFile: (part: string) => boolean): string[] {
  if (name.length > MAX_NAME_LENGTH) return []
  return withBuilders(spellingsOf(name, isInFile).flatMap((spelling) => withoutParts(spelling, isInFile)))
}

function withBuilders(names: readonly string[]): string[] {
  return [...new Set(names.flatMap((name) => [name, apply(BUILDER, name)]))]
}

/** Returns the possible names of a module of a file, beginning with the name in the file. */
export function fileSpellingsOf(name: string): string[] {
  if (name.length > MAX_NAME_LENGTH) return [name]
  const current = apply(VISION_LANGUAGE, withoutRepeats(name))
  return [name, current, apply(LANGUAGE, current)]
}

/** Models nest their parts only a few deep. */
const MAX_DEPTH = 6

/**
 * Returns the names in the file of a part that is exported separately: without the path to the part, or without the part's name. BART's
 * `model.encoder.layers.0.fc1` is `layers.0.fc1` for optimum, and `model.layers.0.fc1` for onnxruntime-genai.
 */
function withoutParts(name: string, isInFile: (part: string) => boolean): string[] {
  const segments = name.split('.', MAX_DEPTH)
  const index = segments.findIndex(isPart)
  const part = segments[index]
  if (part === undefined || !isInFile(part)) return []
  const before = segments.slice(0, index).map((segment) => `${segment}.`)
  const path = before.join('')
  const inside = name.slice(path.length + part.length + 1)
  return inside === '' ? [] : [inside, path + inside, ...withoutParts(inside, isInFile)]
}

/**
 * Removes repeated segments: `layers.layers.0.fc` may be `layers.0.fc`. The TorchScript exporter writes the same name for a container that is
 * called, and for a module whose list of modules has the module's name.
 */
function withoutRepeats(name: string): string {
  return name.replace(/(^|\.)([^.]+)\.(?=\2\.\d+(?:\.|$))/g, '$1')
}

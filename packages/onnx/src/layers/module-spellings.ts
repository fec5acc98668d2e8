/** Names that one module has in files of different tools and versions: a table of what is known, for names that a file does not have as they are. */
import { isPart } from './model-parts.js'
import { MAX_LENGTH } from './module-name.js'

/** transformers before 4.52 → since then. The head of a vision-language model was its language model's. */
const VISION_LANGUAGE: readonly Rule[] = [
  [/^language_model\.model\./, 'model.language_model.'],
  [/^language_model\.lm_head$/, 'lm_head'],
]

/** The language model of a vision-language model → the same in a file of its own, or alone. */
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
 * What a module of an adapter may be called in a file, the name itself first.
 *
 * @param isInFile whether the file holds a part of the model
 */
export function spellingsOf(name: string, isInFile: (part: string) => boolean): string[] {
  if (name.length > MAX_LENGTH) return [name]
  const own = fileSpellingsOf(name)
  return withBuilders(isInFile('language_model') ? own : own.slice(0, 2))
}

/** What it may be called in the file of a part of the model, without that part: whole names, for `layers.0` of an `encoder` is not `decoder.layers.0`. */
export function partSpellingsOf(name: string, isInFile: (part: string) => boolean): string[] {
  if (name.length > MAX_LENGTH) return []
  return withBuilders(spellingsOf(name, isInFile).flatMap((each) => withoutParts(each, isInFile)))
}

function withBuilders(names: readonly string[]): string[] {
  return [...new Set(names.flatMap((name) => [name, apply(BUILDER, name)]))]
}

/** The other names of a module that a file tells, the name itself first. */
export function fileSpellingsOf(name: string): string[] {
  if (name.length > MAX_LENGTH) return [name]
  const now = apply(VISION_LANGUAGE, withoutRepeats(name))
  return [name, now, apply(LANGUAGE, now)]
}

/** Models nest their parts a few deep. */
const MAX_DEPTH = 6

/**
 * A part that is exported by itself has names without the way to it, or without its own: BART's `model.encoder.layers.0.fc1` is
 * `layers.0.fc1` for optimum, and `model.layers.0.fc1` for onnxruntime-genai.
 */
function withoutParts(name: string, isInFile: (part: string) => boolean): string[] {
  const segments = name.split('.', MAX_DEPTH)
  const at = segments.findIndex(isPart)
  const part = segments[at]
  if (part === undefined || !isInFile(part)) return []
  const before = segments.slice(0, at).map((segment) => `${segment}.`)
  const way = before.join('')
  const inside = name.slice(way.length + part.length + 1)
  return inside === '' ? [] : [inside, way + inside, ...withoutParts(inside, isInFile)]
}

/**
 * `layers.layers.0.fc` is `layers.0.fc` too: the first exporter writes a container that is called, and a module whose list of modules has its own
 * name, alike.
 */
function withoutRepeats(name: string): string {
  return name.replace(/(^|\.)([^.]+)\.(?=\2\.\d+(?:\.|$))/g, '$1')
}

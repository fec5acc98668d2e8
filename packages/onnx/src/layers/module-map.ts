/**
 * The user's map of modules that a file does not name: the node of each module, or of all modules that a pattern matches. In a pattern, `*`
 * matches one segment of the module's name, or a part of one. In the node's name it represents the same text.
 */
import { FourierFTError } from '@fourierft/core'

/**
 * Module → name of the product's node, or of its output or weight if nodes have no names. `name:q` (k, v) is a part of a packed product. A
 * list names the products of a module that has several. null means that the file does not have the module.
 *
 * With `*`: `{ 'encoder.layer.*.attention.self.query': 'Attention_*:q' }`.
 */
export type ModuleMap = Readonly<Record<string, ModuleNode>>

type ModuleNode = string | readonly string[] | null

interface Pattern {
  readonly key: string
  readonly segments: readonly string[]
  readonly node: ModuleNode
}

const ADAPTER_ROOT = /^base_model\.model\./

/** Returns a module's name in PyTorch, without the prefix of PEFT's wrapper. */
export function withoutAdapterRoot(module: string): string {
  return module.replace(ADAPTER_ROOT, '')
}

/**
 * Checks the map and returns a function that looks up modules.
 *
 * @param option the name of the map in error messages
 * @returns the map's value for a module, or undefined. Throws `INVALID_OPTION` if two patterns give different values
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function readModuleMap(map: ModuleMap, option = 'map'): (module: string) => ModuleNode | undefined {
  if (typeof map !== 'object' || map === null || Array.isArray(map))
    throw new FourierFTError(
      'INVALID_OPTION',
      `${option}: expected an object of modules and the names of their nodes; received ${JSON.stringify(map)}`,
      { option, received: map },
    )
  const patterns: Pattern[] = []
  for (const [key, node] of Object.entries(map)) {
    const nodes = namesIn(node)
    if (!nodes?.every((name) => typeof name === 'string' && name !== ''))
      throw invalid(option, key, node, 'expected the name of a node, a list of names, or null')
    if (!key.includes('*')) continue
    const segments = withoutAdapterRoot(key).split('.')
    if (segments.some((segment) => starsIn(segment) > 1))
      throw invalid(option, key, key, 'expected at most one * between two dots')
    const unequal = nodes.find((name) => starsIn(name) !== starsIn(key))
    if (unequal !== undefined)
      throw invalid(
        option,
        key,
        unequal,
        `expected as many * in the node's name as in the key: ${starsIn(key)}`,
      )
    patterns.push({ key, segments, node })
  }
  const maxSegments = Math.max(0, ...patterns.map(({ segments }) => segments.length))
  return (module) => {
    const wanted = withoutAdapterRoot(module)
    for (const key of [module, wanted]) if (Object.hasOwn(map, key)) return map[key]
    const segments = wanted.split('.', maxSegments + 1)
    let found: { readonly key: string; readonly node: ModuleNode } | undefined
    for (const pattern of patterns) {
      const texts = textsOf(pattern.segments, segments)
      if (!texts) continue
      const node = fillStars(pattern.node, texts)
      if (found && JSON.stringify(found.node) !== JSON.stringify(node))
        throw invalid(
          option,
          pattern.key,
          found.key,
          `another pattern also matches ${module} and names other nodes`,
          'remove one of the two patterns',
        )
      found ??= { key: pattern.key, node }
    }
    return found?.node
  }
}

/**
 * Returns the modules to which the map assigns a node: its keys, and the names that its patterns make from the labels.
 *
 * @param labels the names of the file's products that a map can contain
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function modulesInMap(map: ModuleMap, labels: Iterable<string>): string[] {
  const nodeOf = readModuleMap(map)
  const modules = new Set(Object.keys(map).filter((key) => !key.includes('*') && map[key] !== null))
  const patterns = Object.entries(map).flatMap(([key, node]) =>
    key.includes('*') ? Array.from(listOf(node), (name) => ({ key, name: starExpression(name) })) : [],
  )
  if (patterns.length === 0) return [...modules]
  for (const label of labels)
    for (const { key, name } of patterns) {
      const texts = name.exec(label)?.slice(1)
      const module = texts && replaceStars(key, texts)
      if (module !== undefined && listOf(nodeOf(module) ?? null).includes(label)) modules.add(module)
    }
  return [...modules]
}

function listOf(node: ModuleNode): readonly string[] {
  if (node === null) return []
  return typeof node === 'string' ? [node] : node
}

/** Returns an expression for a node's name with `*`, which does not match a dot or a slash: these separate segments. */
function starExpression(name: string): RegExp {
  const pieces = name.split('*').map((piece) => piece.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'))
  return new RegExp(`^${pieces.join('([^./]+)')}$`)
}

function namesIn(node: unknown): readonly unknown[] | undefined {
  if (node === null) return []
  if (typeof node === 'string') return [node]
  return Array.isArray(node) && node.length > 0 ? node : undefined
}

function starsIn(text: unknown): number {
  return String(text).split('*').length - 1
}

/** Returns the text for each `*` of the pattern; undefined if the pattern does not match. */
function textsOf(pattern: readonly string[], segments: readonly string[]): string[] | undefined {
  if (pattern.length !== segments.length) return undefined
  const texts: string[] = []
  for (const [i, segment] of segments.entries()) {
    const [before = '', after] = pattern[i]?.split('*') ?? []
    if (after === undefined) {
      if (segment !== before) return undefined
      continue
    }
    const length = segment.length - before.length - after.length
    if (length < 1 || !segment.startsWith(before) || !segment.endsWith(after)) return undefined
    texts.push(segment.slice(before.length, before.length + length))
  }
  return texts
}

function fillStars(node: ModuleNode, texts: readonly string[]): ModuleNode {
  if (node === null) return null
  return typeof node === 'string' ? replaceStars(node, texts) : node.map((name) => replaceStars(name, texts))
}

/** Replaces each `*` of the pattern with its text. */
function replaceStars(pattern: string, texts: readonly string[]): string {
  return pattern.split('*').reduce((text, piece, i) => `${text}${texts[i - 1] ?? ''}${piece}`)
}

function invalid(
  option: string,
  key: string,
  received: unknown,
  expected: string,
  advice?: string,
): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `${option}, ${JSON.stringify(key)}: ${expected}; received ${JSON.stringify(received)}`,
    { option, module: key, expected, received, ...(advice !== undefined && { advice }) },
  )
}

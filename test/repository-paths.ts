/** Finds the repository paths that a Markdown document names: the targets of its links, and inline code such as `packages/core/src`. */
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'

export interface NamedPath {
  readonly text: string
  /** The path from the root of the repository; undefined if nothing has this name. */
  readonly path: string | undefined
}

/** Text in inline code is a path if it has a folder, or a name with one of these extensions. */
const FILE = /\.(?:ts|js|mjs|json|md|py|yml)$/

/**
 * Returns the paths in the order of the text. A path in inline code is relative to the root, to `packages`, to a parent folder of the path named
 * before it, or to the folder of any package. Of a pattern (`kinds/<kind>.ts`, `apps/*`) only the folder before the placeholder is looked up, and
 * `{a,b}` is two paths.
 *
 * @param root the folder of the repository
 * @param document the path of the document in the repository
 */
export function namedPaths(root: string, document: string, markdown: string): NamedPath[] {
  const text = markdown.replace(/^```.*?^```$/gms, '')
  const folders = folderColumns(text)
  const found: NamedPath[] = []
  const packages = readdirSync(join(root, 'packages')).map((name) => `packages/${name}`)
  let bases = ['.', 'packages', ...packages]
  for (const { 0: match, 1: code, 2: link, index } of text.matchAll(/`([^`\n]+)`|\]\(([^)\s]+)\)/g)) {
    if (link !== undefined) {
      if (/^(?:https?:|#)/.test(link)) continue
      const path = join(dirname(document), link.replace(/#.*$/, ''))
      found.push({ text: match, path: existsSync(join(root, path)) ? path : undefined })
    } else if (
      code !== undefined &&
      (isPath(code) || folders.some(([start, end]) => start <= index && index < end))
    ) {
      for (const name of withoutBraces(code)) {
        const folder = folderBeforePlaceholder(name)
        if (folder === '') continue
        const path = bases
          .map((base) => join(base, folder))
          .find((candidate) => existsSync(join(root, candidate)))
        found.push({ text: name, path })
        if (path !== undefined) bases = ['.', 'packages', ...parentsOf(path), ...packages]
      }
    }
  }
  return found
}

/** Returns whether inline code is a path, and not a package (`@fourierft/core`), an import (`#platform`) or the end of a name (`.test.ts`). */
function isPath(code: string): boolean {
  if (/\s/.test(code) || /^[@#]/.test(code) || /^\.[^/]*$/.test(code)) return false
  return code.includes('/') || FILE.test(code)
}

/** Returns the start and the end of each cell in the first column of tables with the heading `folder`. */
function folderColumns(text: string): [start: number, end: number][] {
  return Array.from(text.matchAll(/^\| folder \|.*\n(?:\|.*\n?)*/gm)).flatMap((table) =>
    Array.from(table[0].matchAll(/^\|[^|]*\|/gm), (cell): [number, number] => {
      const start = table.index + cell.index
      return [start, start + cell[0].length]
    }),
  )
}

function withoutBraces(name: string): string[] {
  const [, before = '', choices, after = ''] = /^(.*)\{(.+)\}(.*)$/.exec(name) ?? []
  return choices === undefined ? [name] : choices.split(',').map((choice) => `${before}${choice}${after}`)
}

function folderBeforePlaceholder(name: string): string {
  const placeholder = name.search(/[<*]/)
  return placeholder < 0 ? name : name.slice(0, name.lastIndexOf('/', placeholder) + 1)
}

/** Returns the path and its parent folders, the longest first, without the root. */
function parentsOf(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '')
  return parts.map((_, i) => parts.slice(0, parts.length - i).join('/'))
}

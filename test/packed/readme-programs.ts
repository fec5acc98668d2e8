import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { PackedPackage } from './install.js'

export interface ReadmeProgram {
  /** The name of the package. */
  readonly name: string
  /** The heading above the program. */
  readonly title: string
  /** A file name, unique among all programs. */
  readonly file: string
  readonly code: string
}

/**
 * Returns the programs in the READMEs of these packages. A fence `js run` begins a program, and fences `js run on` continue it. A program prints
 * `true` for each result that it checks.
 */
export function readmePrograms(packages: readonly PackedPackage[]): ReadmeProgram[] {
  return packages.flatMap(({ folder, manifest: { name } }) => {
    const text = readFileSync(join(folder, 'README.md'), 'utf8')
    const programs: { title: string; code: string }[] = []
    for (const match of text.matchAll(/^```js run( on)?\n(.*?)^```/gms)) {
      const [, continues, code = ''] = match
      const last = programs.at(-1)
      if (continues && last) last.code += code
      else programs.push({ title: lastHeading(text.slice(0, match.index)), code })
    }
    return programs.map((program, index) => ({
      ...program,
      name,
      file: `readme-${name.replaceAll(/\W+/g, '-')}-${index}.mjs`,
    }))
  })
}

function lastHeading(text: string): string {
  const headings = text.match(/^#+ .*$/gm) ?? []
  return headings.at(-1)?.replace(/^#+ /, '') ?? ''
}

/** Tests that the files and folders exist that the pages for contributors name. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { namedPaths } from './repository-paths.js'

const root = fileURLToPath(new URL('..', import.meta.url))

function missing(document: string, markdown: string): string[] {
  return namedPaths(root, document, markdown).flatMap(({ text, path }) => (path === undefined ? [text] : []))
}

test.each([
  ['docs/architecture.md', 40],
  ['docs/add-a-backend.md', 12],
  ['docs/add-to-the-project.md', 20],
  ['docs/commands.md', 10],
  ['CONTRIBUTING.md', 10],
  ['README.md', 10],
])('every path in %s exists', (document, leastCount) => {
  const markdown = readFileSync(join(root, document), 'utf8')
  expect(missing(document, markdown)).toEqual([])
  // If the paths were not recognised, nothing would be missing either.
  expect(namedPaths(root, document, markdown).length).toBeGreaterThanOrEqual(leastCount)
})

test.each([
  ['a missing file', '`packages/core/src/nowhere.ts`', ['packages/core/src/nowhere.ts']],
  ['a missing file without a folder', 'See `nowhere.ts`.', ['nowhere.ts']],
  ['a missing folder before a placeholder', '`packages/nowhere/<name>.ts`', ['packages/nowhere/<name>.ts']],
  ['the missing one of two files', '`test/{docs,nowhere}.test.ts`', ['test/nowhere.test.ts']],
  ['a missing target of a link', '[here](nowhere.md#words)', ['](nowhere.md#words)']],
  [
    'a missing folder in a table',
    '| folder | |\n| --- | --- |\n| `packages/core/src`, `nowhere` | |\n',
    ['nowhere'],
  ],
  [
    'a name of another package',
    '`packages/core/src/entries`, then `kinds/registry.ts`',
    ['kinds/registry.ts'],
  ],
])('finds %s', (_, markdown, names) => {
  expect(missing('docs/page.md', markdown)).toEqual(names)
})

test.each([
  [
    'a file of a parent folder of the path before it',
    '`packages/tfjs/src/kinds/registry.ts` and `attach/attach.ts`',
  ],
  ['a folder of a package without `packages`', '`core/src/entries`'],
  ['a pattern in an existing folder', '`packages/tfjs/src/kinds/<kind>.ts`, `apps/*`, `*.slow.test.ts`'],
  [
    'names of packages, imports and endings',
    '`@fourierft/nowhere/vitest`, `#platform`, `.test.ts`, `y += ΔW x`',
  ],
  ['a program', '```ts\nimport "./nowhere.js"\n```\n'],
  ['a link to another site', '[paper](https://arxiv.org/abs/2405.03003)'],
])('accepts %s', (_, markdown) => {
  expect(missing('docs/page.md', markdown)).toEqual([])
})

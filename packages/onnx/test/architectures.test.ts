/** The tables in architectures.md and gradients.md are what their scripts print from the recorded results. */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

test.each([
  ['architectures', 'table.js'],
  ['gradients', 'gradient-table.js'],
])('the table in %s.md is the one that %s prints from the recorded results', async (name, script) => {
  const { stdout } = await promisify(execFile)(process.execPath, [path(`../scripts/architectures/${script}`)])
  const page = await readFile(path(`../${name}.md`), 'utf8')
  const mark = `<!-- /${name} -->`
  const table = page.slice(page.indexOf(`<!-- ${name} -->`), page.indexOf(mark) + mark.length)
  expect(table.split('\n').length).toBeGreaterThan(50)
  expect(`${table}\n`).toBe(stdout)
})

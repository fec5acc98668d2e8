/** The table of architectures in the README is up to date with the recorded results. */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

test('the table of architectures in the README is that of results.json', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [path('../scripts/architectures/table.js')])
  const readme = await readFile(path('../README.md'), 'utf8')
  const mark = '<!-- /architectures -->'
  const table = readme.slice(readme.indexOf('<!-- architectures -->'), readme.indexOf(mark) + mark.length)
  expect(table.split('\n').length).toBeGreaterThan(50)
  expect(`${table}\n`).toBe(stdout)
})

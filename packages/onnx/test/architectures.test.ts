/** The table in architectures.md is what its script prints from the recorded results. */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

test('the table in architectures.md is the one that table.js prints from results.json', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [path('../scripts/architectures/table.js')])
  const page = await readFile(path('../architectures.md'), 'utf8')
  const mark = '<!-- /architectures -->'
  const table = page.slice(page.indexOf('<!-- architectures -->'), page.indexOf(mark) + mark.length)
  expect(table.split('\n').length).toBeGreaterThan(50)
  expect(`${table}\n`).toBe(stdout)
})

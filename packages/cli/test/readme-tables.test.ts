/**
 * Tests that the generated blocks of the READMEs agree with the stored results, and the results with the list of backends. If a test fails,
 * run `npm run -s fourierft -- conformance --readme .`, with `--backend NAME` to measure only that backend.
 */
import { cp, mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LEVELS, referenceBackend, runConformance } from '@fourierft/conformance'
import { expect, test } from 'vitest'
import { backendNames, backendsThatNeed, isNodeBackend } from '../src/backends.js'
import { expectedReadmes, readResults, updateReadmes } from '../src/readme-tables.js'
import { capturedRun } from './captured-run.js'

const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url))

test('every generated block is up to date', async () => {
  const readmes = await expectedReadmes(REPOSITORY)
  expect(readmes.map(({ file }) => file)).toEqual(['README.md', 'conformance/README.md'])
  for (const { file, text } of readmes) expect(text).toBe(await readFile(join(REPOSITORY, file), 'utf8'))
})

test('the results contain all levels in full of each backend that runs in Node, in the order of the list', async () => {
  const results = await readResults(REPOSITORY)
  expect(results.map(({ backend }) => backend)).toEqual(backendsThatNeed('Node'))
  for (const { backend, quick, levels } of results) {
    expect([backend, quick]).toEqual([backend, false])
    expect(levels.map(({ level, title }) => [level, title])).toEqual(
      LEVELS.map(({ level, title }) => [level, title]),
    )
    expect(levels.filter(({ status }) => status === 'fail')).toEqual([])
  }
})

test('the tool opens every backend except those that run only in browsers', () => {
  expect([...backendNames].sort()).toEqual([...backendsThatNeed('Node'), ...backendsThatNeed('GPU')].sort())
  expect(backendsThatNeed('browser').filter(isNodeBackend)).toEqual([])
})

test('the README of the tool lists every backend', async () => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  expect(backendNames.filter((name) => !readme.includes(`\`${name}\``))).toEqual([])
})

async function copyOfRepository(readme: string): Promise<string> {
  const repository = await mkdtemp(join(tmpdir(), 'fourierft-'))
  await mkdir(join(repository, 'conformance'))
  for (const file of ['conformance/README.md', 'conformance/results.json'])
    await cp(join(REPOSITORY, file), join(repository, file))
  await writeFile(join(repository, 'README.md'), readme)
  return repository
}

test('replaces the row of a measured backend, and keeps the others and the text around the table', async () => {
  const repository = await copyOfRepository(
    'Before\n\n<!-- conformance -->\nold\n<!-- /conformance -->\n\nAfter\n',
  )
  const report = await runConformance(referenceBackend(), { levels: [2] })
  await updateReadmes(repository, [{ ...report, backend: 'core' }])
  const readme = await readFile(join(repository, 'README.md'), 'utf8')
  expect(readme).toMatch(
    /^Before\n\n<!-- conformance -->\n\n\| backend [\s\S]*\n\n<!-- \/conformance -->\n\nAfter\n$/,
  )
  expect(readme).toMatch(/^\| core \| cpu \| – \| gap \|/m)
  const [row = 'missing'] =
    /^\| transformers .*/m.exec(await readFile(join(REPOSITORY, 'README.md'), 'utf8')) ?? []
  expect(readme).toContain(`${row}\n`)
  const notes = await readFile(join(repository, 'conformance/README.md'), 'utf8')
  expect(notes).toContain('- core, level 2 file, gap: round trip: the backend has no roundTrip')
  const [stored] = await readResults(repository)
  expect(stored?.levels[0]).not.toHaveProperty('checks')
})

test('rejects a README without the markers', async () => {
  const repository = await copyOfRepository('no table')
  await expect(updateReadmes(repository, [])).rejects.toThrow('<!-- conformance -->')
})

test('--readme needs all levels in full', async () => {
  const { status, stderr } = await capturedRun('conformance', '--readme', REPOSITORY, '--quick')
  expect({ status, stderr }).toEqual({
    status: 2,
    stderr: expect.stringContaining('--readme needs all levels'),
  })
})

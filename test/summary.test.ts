/** Tests that the last line of a run counts all errors, also those outside of tests. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'fourierft-summary-'))
const report = join(folder, 'report.json')

afterAll(() => rmSync(folder, { recursive: true, force: true }))

const CONFIG = `
import { VitestReport } from ${JSON.stringify(new URL('../scripts/vitest-report.js', import.meta.url).href)}
export default { test: { globals: true, reporters: [new VitestReport(${JSON.stringify(report)})] } }`

const FILES = {
  'after-all.test.js': `afterAll(() => { throw new Error('not cleaned up') })
    it('passes', () => {})
    it('gap: level 7 training: the runtime does not train', () => {})`,
  'before-all.test.js': `describe('layers', () => { beforeAll(() => { throw new Error('not set up') }); it('never runs', () => {}) })`,
  'does-not-load.test.js': `import './missing.js'`,
  'fails.test.js': `it('fails', () => { throw new Error('wrong') })`,
  'has-no-test.test.js': '',
  'skips.test.js': `it('skips', (context) => context.skip('no GPU here'))`,
  'throws-later.test.js': `it('ends too early', async () => {
      setTimeout(() => { throw new Error('nobody waits') }, 1)
      await new Promise((resolve) => setTimeout(resolve, 20))
    })`,
}

function summaryOf(files: Readonly<Record<string, string>>, ...flags: string[]) {
  const project = mkdtempSync(join(folder, 'run-'))
  writeFileSync(join(project, 'vitest.config.mjs'), CONFIG)
  for (const [name, text] of Object.entries(files)) writeFileSync(join(project, name), text)
  spawnSync(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--root', project], {
    cwd: project,
  })
  const { status, stdout } = spawnSync(
    process.execPath,
    [join(root, 'scripts/summary.js'), report, ...flags],
    { encoding: 'utf8' },
  )
  return { status, lines: stdout.trim().split('\n') }
}

test('counts hooks that fail, files that do not load, and errors that no test catches', () => {
  const { status, lines } = summaryOf(FILES)
  expect(status).toBe(1)
  expect(lines.at(-1)).toBe('2 passed, 6 failed, 2 skipped')
  const failed = lines.filter((line) => line.startsWith('failed: ')).join('\n')
  for (const part of ['not cleaned up', 'not set up', 'missing.js', 'has-no-test.test.js', 'nobody waits'])
    expect(failed).toContain(part)
  expect(lines).toContainEqual('skipped: skips.test.js > skips (no GPU here)')
})

test('prints gaps, and does not count them as passed tests', () => {
  const { status, lines } = summaryOf({ 'a.test.js': "it('passes', () => {}); it('gap: level 7', () => {})" })
  expect(status).toBe(0)
  expect(lines).toEqual(['gap: level 7 (a.test.js)', '1 passed, 0 failed'])
})

test('fails for a skipped test with --no-skips', () => {
  const files = { 'skips.test.js': `it('passes', () => {}); ${FILES['skips.test.js']}` }
  expect(summaryOf(files)).toMatchObject({ status: 0 })
  expect(summaryOf(files, '--no-skips')).toMatchObject({ status: 1 })
})

test('fails if there is no report, or no test in it', () => {
  expect(() =>
    execFileSync(process.execPath, [join(root, 'scripts/summary.js'), join(folder, 'none.json')]),
  ).toThrow()
  writeFileSync(report, JSON.stringify({ tests: [], errors: [] }))
  expect(() => execFileSync(process.execPath, [join(root, 'scripts/summary.js'), report])).toThrow()
})

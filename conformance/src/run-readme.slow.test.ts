/** Runs the code of the README: its backend passes the suite, and a faulty copy fails. */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'

const PACKAGE = fileURLToPath(new URL('..', import.meta.url))
const VITEST = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs')

let folder: string
let files: Map<string, string>

beforeAll(async () => {
  const readme = await readFile(join(PACKAGE, 'README.md'), 'utf8')
  files = new Map(
    Array.from(readme.matchAll(/^```ts (\S+)\n(.*?)^```$/gms), ([, name = '', code = '']) => [name, code]),
  )
  // Inside the package, so that the names of this package and of core resolve as they do for a user.
  const cache = join(PACKAGE, '.cache')
  await mkdir(cache, { recursive: true })
  folder = await mkdtemp(join(cache, 'readme-'))
  for (const [name, code] of files) await writeFile(join(folder, name), code)
  // Without this file, vitest would use a configuration from a parent folder.
  await writeFile(
    join(folder, 'vitest.config.ts'),
    "export default { ssr: { resolve: { conditions: ['@fourierft/source', 'module', 'node', 'development|production'] } } }",
  )
})

afterAll(() => rm(folder, { recursive: true, force: true }))

interface TestResults {
  readonly testResults: readonly {
    readonly assertionResults: readonly {
      readonly title: string
      readonly status: string
      readonly failureMessages: readonly string[]
    }[]
  }[]
}

/** Runs one test file with vitest in a new process. */
async function run(name: string) {
  const output = join(folder, `${name}.json`)
  const options = ['run', name, '--root', folder, '--reporter', 'json', '--outputFile', output]
  // A run with failing tests has another exit code; the statuses are in the file.
  const ended = await promisify(execFile)(process.execPath, [VITEST, ...options], { cwd: folder }).catch(
    (error) => error,
  )
  const text = await readFile(output, 'utf8').catch(() => {
    throw new Error(`vitest gave no results: ${ended.stdout}${ended.stderr}`)
  })
  const { testResults }: TestResults = JSON.parse(text)
  return testResults.flatMap(({ assertionResults }) => assertionResults)
}

it('the backend of the README passes the suite, and its gap is a skipped test', async () => {
  expect([...files.keys()]).toEqual(['my-backend.ts', 'my-backend.test.ts', 'my-adapters.test.ts'])
  const tests = await run('my-backend.test.ts')
  expect(tests.map(({ title, status }) => `${title}: ${status}`)).toEqual([
    'level 1: entries: passed',
    'level 2: file: skipped',
    'level 3: ΔW: passed',
    'level 4: forward: passed',
    'level 5: backward: passed',
    'level 6: life cycle: passed',
    'level 7: training: passed',
    'level 8: bad input: passed',
  ])
})

it('the reference implementation passes every situation of the life cycle', async () => {
  const tests = await run('my-adapters.test.ts')
  expect(tests.length).toBeGreaterThan(40)
  expect(tests.filter(({ status }) => status !== 'passed')).toEqual([])
})

it('names declared gaps in test titles, and fails if the backend passes a declared gap', async () => {
  await writeFile(
    join(folder, 'lacking-backend.test.ts'),
    `import { testBackend } from '@fourierft/conformance/vitest'
     import { describe } from 'vitest'
     import { myBackend } from './my-backend'
     const options = { levels: [1, 2, 7], quick: true } as const
     describe('true', () => testBackend(myBackend, { ...options, lacks: { 2: 'core reads files' } }))
     describe('false', () => testBackend(myBackend, { ...options, levels: [1], lacks: { 1: 'no entries' } }))
     const serving = () => ({ ...myBackend(), trainable: 'nobody' as const })
     describe('serving', () => testBackend(serving, { ...options, levels: [7], lacks: { 7: 'it serves' } }))
     const forSuite = () => ({ ...myBackend(), trainable: 'suite' as const })
     describe('suite', () => testBackend(forSuite, { ...options, levels: [7], lacks: { 7: 'no training yet' } }))
     describe('unnamed', () => testBackend(forSuite, { ...options, levels: [7] }))`,
  )
  const tests = await run('lacking-backend.test.ts')
  expect(tests.map(({ title, status }) => `${title}: ${status}`)).toEqual([
    'level 1: entries: passed',
    'gap: level 2 file: core reads files: passed',
    'level 7: training: passed',
    'gap: level 1 entries: no entries: failed',
    'gap: level 7 training: it serves: passed',
    'gap: level 7 training: no training yet: passed',
    'level 7: training: skipped',
  ])
})

it('fails a backend with a wrong sign, names the failing checks, and also runs additional tests', async () => {
  const code = files.get('my-backend.ts') ?? ''
  const wrong = code.replace('y[t * d1 + p] += sum', 'y[t * d1 + p] -= sum')
  expect(wrong).not.toBe(code)
  await writeFile(join(folder, 'wrong-backend.ts'), wrong)
  await writeFile(
    join(folder, 'wrong-backend.test.ts'),
    `import { testBackend } from '@fourierft/conformance/vitest'
     import { expect, it } from 'vitest'
     import { myBackend } from './wrong-backend'
     testBackend(myBackend, {
       levels: [3, 4],
       quick: true,
       additionalTests: (backend) => it('has a name', () => expect(backend().name).toBe('mine')),
     })`,
  )
  const tests = await run('wrong-backend.test.ts')
  expect(tests.map(({ title, status }) => `${title}: ${status}`)).toEqual([
    'level 3: ΔW: passed',
    'level 4: forward: failed',
    'has a name: passed',
  ])
  expect(tests[1]?.failureMessages.join('\n')).toContain('dense, PyTorch: one adapter, bias')
})

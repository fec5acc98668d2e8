/** Tests each command as a user runs it: the built program as a process. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from 'vitest'

const program = fileURLToPath(new URL('../dist/main.js', import.meta.url))
const run = (...options: string[]) => promisify(execFile)(process.execPath, [program, ...options])
const out = await mkdtemp(join(tmpdir(), 'experiments-'))
afterAll(() => rm(out, { recursive: true }))

/** The model and the mails, which no test fetches. */
const hasMails = ['minilm-0.2.1/model.onnx', 'spam-assassin-0.2.3'].every((file) =>
  existsSync(fileURLToPath(new URL(`../../../.cache/${file}`, import.meta.url))),
)
const withoutMails = hasMails
  ? ''
  : ' (skipped: npm run experiments -- mails has not fetched the model and the mails)'

/**
 * `results` has the known result of each row: in `expressiveness` the number of runs that reach 100 % in 40 epochs, otherwise the test loss on
 * WebAssembly, which the table rounds to 0.001.
 */
const commands = [
  {
    name: 'expressiveness',
    column: 'runs that reach 100 %',
    results: ['1 of 1', '0 of 1', '1 of 1', '0 of 1'],
    shows: ['network frozen', 'FourierFT', 'LoRA'],
  },
  {
    name: 'parameters',
    column: 'test loss',
    results: [2.99, 2.539, 3.383, 3.463],
    shows: ['FourierFT', 'LoRA', 'trained parameters in each layer'],
  },
  {
    name: 'frequency-bias',
    column: 'test loss',
    results: [3.103, 3.279, 3.513],
    shows: ['no bias', 'band-pass', 'central frequency'],
  },
  {
    name: 'bases',
    column: 'test loss',
    results: [2.813, 2.827, 2.439],
    shows: ['fourier', 'orthogonal', 'random'],
  },
]

interface ExpectedOutput {
  readonly name: string
  readonly column: string
  readonly results: readonly (string | number)[]
  readonly shows: readonly string[]
}

async function expectOutput({ name, column, results, shows }: ExpectedOutput): Promise<void> {
  const { stdout } = await run(name, '--quick', '--out', out)
  const table = stdout.split('\n').filter((line) => line.startsWith('|'))
  expect(table).toHaveLength(results.length + 2)
  const cells = table.map((line) => line.split('|').map((cell) => cell.trim()))
  const index = cells[0]?.indexOf(column) ?? -1
  for (const [row, expected] of results.entries()) {
    const shown = cells[row + 2]?.[index] ?? ''
    if (typeof expected === 'string') expect(shown).toBe(expected)
    else expect(Math.abs(Number.parseFloat(shown) - expected)).toBeLessThan(0.001 + 1e-9)
  }
  expect(table.join('\n')).toMatch(/\d+\.\d ± 0\.0 %/)
  expect(stdout).not.toContain('NaN')
  const text = await readFile(join(out, `${name}.md`), 'utf8')
  expect(text).toContain(table.join('\n'))
  expect(text).toContain(`npm run experiments -- ${name} --quick`)
  const svg = await readFile(join(out, `${name}.svg`), 'utf8')
  expect(svg).toContain('</svg>')
  expect(svg).not.toContain('NaN')
  for (const word of shows) expect(svg).toContain(word)
}

const title = 'prints a table with the known results, and writes the table and the picture'
describe.each(commands)('$name', (command) => {
  it(title, () => expectOutput(command))
})

describe.skipIf(!hasMails)(`mails${withoutMails}`, () => {
  it(title, async () => {
    await expectOutput({
      name: 'mails',
      column: 'test loss',
      results: [0.662, 0.623, 0.542, 0.621, 0.613, 0.606, 0.615, 0.661, 0.661],
      shows: ['FourierFT', 'LoRA', 'head only', 'trained parameters, without the head'],
    })
    const svg = await readFile(join(out, 'mails-rate.svg'), 'utf8')
    expect(svg).toContain('0.2, the default')
    expect(svg).not.toContain('NaN')
  })
})

describe('the command line', () => {
  it('prints numbers that depend only on the seed', async () => {
    const table = async (seed: string) =>
      (await run('expressiveness', '--quick', '--seeds', seed, '--out', out)).stdout
    const first = await table('4')
    expect(await table('4')).toBe(first)
    expect(await table('5')).not.toBe(first)
  })

  it('rejects seeds that are not whole numbers', async () => {
    await expect(run('bases', '--seeds', '1,x')).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining('whole numbers'),
    })
  })

  it('names the folder that it cannot write to', async () => {
    await expect(run('bases', '--quick', '--out', join(program, 'sub'))).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining(join(program, 'sub')),
    })
  })
})

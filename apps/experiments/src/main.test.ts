/** Each command from end to end, as a user runs it: the built program in its own process. */
import { execFile } from 'node:child_process'
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

const commands = [
  { name: 'expressiveness', rows: 4, shows: ['network frozen', 'FourierFT', 'LoRA'] },
  { name: 'parameters', rows: 4, shows: ['FourierFT', 'LoRA', 'trained parameters in each layer'] },
  { name: 'frequency-bias', rows: 3, shows: ['no bias', 'band-pass', 'central frequency'] },
  { name: 'bases', rows: 3, shows: ['fourier', 'orthogonal', 'random'] },
]

describe.each(commands)('$name', ({ name, rows, shows }) => {
  it('prints its table, and writes the table and the picture', async () => {
    const { stdout } = await run(name, '--quick', '--out', out)
    const table = stdout.split('\n').filter((line) => line.startsWith('|'))
    expect(table).toHaveLength(rows + 2)
    expect(table.join('\n')).toMatch(/\d+\.\d ± 0\.0 %/)
    expect(stdout).not.toContain('NaN')
    const text = await readFile(join(out, `${name}.md`), 'utf8')
    expect(text).toContain(table.join('\n'))
    expect(text).toContain(`npm run experiments -- ${name} --quick`)
    const svg = await readFile(join(out, `${name}.svg`), 'utf8')
    expect(svg).toContain('</svg>')
    expect(svg).not.toContain('NaN')
    for (const word of shows) expect(svg).toContain(word)
  })
})

describe('the command line', () => {
  it('gives numbers that depend on the seed only', async () => {
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

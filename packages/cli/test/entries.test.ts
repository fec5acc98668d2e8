/** Tests `fourierft entries`. */
import { existsSync } from 'node:fs'
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bandPassEntries, uniformEntries } from '@fourierft/core'
import { expect, test } from 'vitest'
import { capturedRun } from './captured-run.js'

// torch.randperm(12, generator=torch.Generator().manual_seed(777))[:5], after divmod(v, 4).
const RANDPERM = [
  [2, 1, 0, 2, 0],
  [3, 3, 3, 0, 0],
]

test('prints the same entries as PEFT, as JSON', async () => {
  const { status, stdout, stderr } = await capturedRun(
    'entries',
    '--shape',
    '3,4',
    '--n',
    '5',
    '--seed',
    '777',
    '--json',
  )
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  expect(JSON.parse(stdout)).toEqual(RANDPERM)
})

test('prints a table without --json', async () => {
  const { status, stdout } = await capturedRun('entries', '--shape', '3,4', '--n', '5', '--seed', '777')
  expect(status).toBe(0)
  const [header, ...lines] = stdout.trimEnd().split('\n')
  expect(header?.trim().split(/\s+/)).toEqual(['l', 'j', 'k'])
  const rows = lines.map((line) => line.trim().split(/\s+/).map(Number))
  expect(rows.map(([l]) => l)).toEqual([0, 1, 2, 3, 4])
  expect([rows.map(([, j]) => j), rows.map(([, , k]) => k)]).toEqual(RANDPERM)
})

test.each(['18446744073709551615', '-9223372036854775808', '9007199254740993', '-1'])(
  'does not round the 64-bit seed %s',
  async (seed) => {
    const { status, stdout } = await capturedRun(
      'entries',
      '--shape',
      '30,40',
      '--n',
      '9',
      '--seed',
      seed,
      '--json',
    )
    expect(status).toBe(0)
    const { rows, columns } = uniformEntries({ shape: [30, 40], n: 9, seed: BigInt(seed) })
    expect(JSON.parse(stdout)).toEqual([[...rows], [...columns]])
  },
)

test('--legacy changes nothing for small spectra', async () => {
  const common = ['entries', '--shape', '30,40', '--n', '9', '--seed', '5', '--json']
  expect((await capturedRun(...common, '--legacy')).stdout).toBe((await capturedRun(...common)).stdout)
})

test('--bandpass with --plot prints the entries and draws the map', async () => {
  const file = join(await mkdtemp(join(tmpdir(), 'fourierft-')), 'figure.svg')
  const { status, stdout, stderr } = await capturedRun(
    ...[
      'entries',
      '--shape',
      '60,80',
      '--n',
      '50',
      '--seed',
      '1',
      '--bandpass',
      '12.5,20',
      '--plot',
      file,
      '--json',
    ],
  )
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const { rows, columns } = bandPassEntries({
    shape: [60, 80],
    n: 50,
    seed: 1,
    centerFrequency: 12.5,
    bandwidth: 20,
  })
  expect(JSON.parse(stdout)).toEqual([[...rows], [...columns]])
  const svg = await readFile(file, 'utf8')
  expect(svg).toMatch(/^<svg /)
  expect(svg).toContain('f_c = 12.5, W = 20; 50 sampled entries')
  // All entries are subpaths of the only path of this colour.
  const dots = /<path[^>]*d="([^"]*)"[^>]*fill="#e4002b"/.exec(svg)?.[1] ?? ''
  expect(dots.match(/M/g)).toHaveLength(50)
})

test('draws a large spectrum into a file of moderate size', async () => {
  const file = join(await mkdtemp(join(tmpdir(), 'fourierft-')), 'figure.svg')
  const args = [
    '--shape',
    '768,768',
    '--n',
    '1000',
    '--seed',
    '2024',
    '--bandpass',
    '100,200',
    '--plot',
    file,
  ]
  expect(await capturedRun('entries', ...args)).toMatchObject({ status: 0 })
  expect((await readFile(file)).length).toBeLessThan(500_000)
})

test.each([
  [['--shape', '3,4', '--n', '13', '--seed', '1'], 'INVALID_ENTRY_COUNT'],
  [['--shape', '3,4', '--n', '1', '--seed', '18446744073709551616'], 'INVALID_OPTION'],
  [['--shape', '3,4', '--n', '0', '--seed', '1'], 'USAGE'],
  [['--shape', '3,4', '--n', '2.5', '--seed', '1'], 'USAGE'],
  [['--shape', '3', '--n', '1', '--seed', '1'], 'USAGE'],
  [['--shape', '3,0', '--n', '1', '--seed', '1'], 'USAGE'],
  [['--shape', '3,4,5', '--n', '1', '--seed', '1'], 'USAGE'],
  [['--shape', '3,4', '--n', '1', '--seed', '1e3'], 'USAGE'],
  [['--shape', '3,4', '--n', '1'], 'USAGE'],
  [['--shape', '3,4', '--n', '1', '--seed', '1', '--bandpass', '5'], 'USAGE'],
  [['--shape', '3,4', '--n', '1', '--seed', '1', '--bandpass', '5,0'], 'USAGE'],
  [['--shape', '3,4', '--n', '1', '--seed', '1', '--bandpass', '1,2', '--legacy'], 'USAGE'],
  [['--shape', '3,4', '--n', '1', '--seed', '1', '--plot', 'never.svg'], 'USAGE'],
])('rejects the arguments %j', async (args, code) => {
  const { status, stdout, stderr } = await capturedRun('entries', ...args)
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  expect(stderr).toMatch(new RegExp(`^fourierft: ${code}: [^\n]+\n$`))
  expect(existsSync('never.svg')).toBe(false)
})

test('fails if the figure cannot be written, and prints no entries', async () => {
  const args = [
    '--shape',
    '9,9',
    '--n',
    '3',
    '--seed',
    '1',
    '--bandpass',
    '2,2',
    '--plot',
    '/dev/null/figure.svg',
  ]
  const { status, stdout, stderr } = await capturedRun('entries', ...args)
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(/^fourierft: IO_ERROR: \/dev\/null\/figure\.svg: [^\n]+\n$/)
})

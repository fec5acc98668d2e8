/** Tests how `fourierft conformance` runs the suite and prints its verdict. The suite has its own tests. */
import type { ConformanceRow } from '@fourierft/conformance'
import { coreBackend } from '@fourierft/core/conformance'
import { afterEach, expect, test, vi } from 'vitest'
import { type BackendName, openBackend } from '../src/backends.js'
import { capturedRun } from './captured-run.js'

vi.mock('../src/backends.js', { spy: true })
afterEach(() => {
  vi.mocked(openBackend).mockReset()
})

const LEVEL_3 = ['--level', '3', '--quick']

test('prints rows of JSON with the largest error and its limit', async () => {
  const { status, stdout, stderr } = await capturedRun(
    'conformance',
    '--backend',
    'core',
    ...LEVEL_3,
    '--json',
  )
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const rows: ConformanceRow[] = JSON.parse(stdout)
  expect(rows).toHaveLength(1)
  expect(rows[0]).toMatchObject({ backend: 'core', device: 'cpu', level: 3, status: 'pass' })
  expect(rows[0]?.maxError).toBeTypeOf('number')
  expect(rows[0]?.maxError).toBeLessThanOrEqual(rows[0]?.limit ?? -1)
})

test('fails if a backend computes something else', async () => {
  vi.mocked(openBackend).mockImplementation(async () => {
    const backend = coreBackend()
    return { ...backend, delta: async (layer) => (await backend.delta(layer)).map((value) => value * 1.01) }
  })
  const { status, stdout, stderr } = await capturedRun(
    'conformance',
    '--backend',
    'core',
    ...LEVEL_3,
    '--json',
  )
  expect(status).toBe(1)
  expect(stderr).toMatch(/^fourierft: NOT_CONFORMANT: core at level 3[^\n]*\n$/)
  expect(JSON.parse(stdout)).toMatchObject([{ backend: 'core', level: 3, status: 'fail' }])
})

test.each(['tfjs-cpu', 'tfjs-wasm'] satisfies BackendName[])(
  'skips %s without its packages, and prints the reason',
  async (name) => {
    vi.mocked(openBackend).mockResolvedValue({ reason: '@fourierft/tfjs is not installed' })
    const args = ['conformance', '--backend', name, '--level', '1', '--level', '3']
    const { status, stdout } = await capturedRun(...args, '--json')
    expect(status).toBe(0)
    const row = { backend: name, device: 'unavailable', status: 'skip', maxError: null, limit: null }
    expect(JSON.parse(stdout)).toEqual(
      [1, 3].map((level) => ({ ...row, level, reason: '@fourierft/tfjs is not installed' })),
    )
    expect((await capturedRun(...args)).stdout).toBe(`${name}: skipped, @fourierft/tfjs is not installed\n`)
  },
)

test('prints a table, or Markdown', async () => {
  const args = ['conformance', '--backend', 'core', ...LEVEL_3]
  expect((await capturedRun(...args)).stdout).toMatch(/^core +cpu/m)
  expect((await capturedRun(...args, '--markdown')).stdout).toMatch(/^\| core \| cpu \|/m)
})

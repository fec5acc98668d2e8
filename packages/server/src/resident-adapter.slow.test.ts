/** The memory of ten thousand adapters, from the growth of a process with 2,000 of them. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'vite'
import { beforeAll, expect, it } from 'vitest'

const COUNT = 2000
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fourierft-server-'))
  await build({
    logLevel: 'error',
    configFile: false,
    ssr: { noExternal: true, resolve: { conditions: ['@fourierft/source', 'node', 'import'] } },
    build: {
      ssr: fileURLToPath(new URL('__fixtures__/measure-memory.ts', import.meta.url)),
      target: 'node20',
      outDir: folder,
      rollupOptions: { output: { entryFileNames: 'measure-memory.mjs' } },
    },
  })
  return () => rm(folder, { recursive: true })
})

it.each([
  ['F32', 1.1e9],
  ['F16', 0.6e9],
] as const)(
  '10,000 adapters of 24 modules with n = 1000 in %s take at most %d bytes',
  async (dtype, most) => {
    const program = join(folder, 'measure-memory.mjs')
    const { stdout } = await promisify(execFile)(process.execPath, [
      '--expose-gc',
      program,
      String(COUNT),
      dtype,
    ])
    const [atHalf, atCount, counted] = JSON.parse(stdout) as [number, number, number]
    // The heap of JavaScript grows only at first.
    const perAdapter = (atCount - atHalf) / (COUNT / 2)
    const growth = atCount + perAdapter * (10_000 - COUNT)
    console.log(
      `${dtype}: ${growth / 1e6} MB for 10,000 adapters; each takes ${perAdapter} bytes, and ${counted / COUNT} are counted`,
    )
    expect(growth).toBeLessThan(most)
    expect(perAdapter / (counted / COUNT)).toBeLessThan(1.1)
  },
)

/** Runs the code of the README in plain Node, with the built package. */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { createAdapter, loadAdapter } from '@fourierft/core'
import { afterAll, beforeAll, expect, it } from 'vitest'

const PACKAGE = fileURLToPath(new URL('..', import.meta.url))

let folder: string
beforeAll(async () => {
  // Inside the package, so that the package's name resolves as it does for users.
  const cache = join(PACKAGE, '.cache')
  await mkdir(cache, { recursive: true })
  folder = await mkdtemp(join(cache, 'readme-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

it('trains, saves, loads, swaps and merges', async () => {
  const readme = await readFile(join(PACKAGE, 'README.md'), 'utf8')
  const blocks = Array.from(readme.matchAll(/^```js run(?: on)?\n(.*?)^```$/gms), ([, code]) => code)
  expect(blocks.length).toBe(5)
  await writeFile(join(folder, 'readme.mjs'), blocks.join('\n'))
  const { stdout } = await promisify(execFile)(process.execPath, ['readme.mjs'], { cwd: folder })
  expect(stdout).toMatch(/^loss \d\S* → \d\S*$/m)
  expect(stdout).toMatch(/^\[ 100 \]$/m)
  expect(await readdir(join(folder, 'my-adapter'))).toEqual([
    'adapter_config.json',
    'adapter_model.safetensors',
  ])
  const { config, modules } = await loadAdapter(join(folder, 'my-adapter'))
  const untrained = createAdapter(config, { hidden: [64, 32] }).modules.get('hidden')?.coefficients ?? []
  const trained = modules.get('hidden')?.coefficients ?? []
  expect([trained.length, untrained.length]).toEqual([100, 100])
  expect(trained.every((value, l) => Number.isFinite(value) && value !== untrained[l])).toBe(true)
})

/** What the README shows runs as it stands there, in a plain Node with the package as it is built. */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'

const PACKAGE = fileURLToPath(new URL('..', import.meta.url))

let folder: string
beforeAll(async () => {
  // Inside the package, so that its own name resolves as it does for a user.
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
  const [, first, last] = /^loss (\S+) → (\S+)$/m.exec(stdout) ?? []
  expect(Number(last)).toBeLessThan(Number(first))
  expect(stdout).toMatch(/^\[ 100 \]$/m)
  expect(await readdir(join(folder, 'my-adapter'))).toEqual([
    'adapter_config.json',
    'adapter_model.safetensors',
  ])
})

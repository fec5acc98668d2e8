/** `writeTinyModels`: writes the tiny model to a folder, for tests in Node. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll } from 'vitest'
import { tinyModel } from './tiny-model.js'

/**
 * Writes the models `tiny-bert` and `tiny-bert-external`. Has to be called at the top level of a test file, not in a test.
 *
 * @returns the folder, for `env.localModelPath`; it is removed after all tests
 */
export function writeTinyModels(): string {
  const root = mkdtempSync(join(tmpdir(), 'fourierft-'))
  afterAll(() => rmSync(root, { recursive: true, force: true }))
  for (const [name, isExternal] of [
    ['tiny-bert', false],
    ['tiny-bert-external', true],
  ] as const) {
    for (const [file, content] of Object.entries(tinyModel({ isExternal }))) {
      const path = join(root, name, file)
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, content)
    }
  }
  return root
}

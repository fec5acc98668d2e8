/** `writeTinyModels`: writes the tiny model to files, for tests in Node. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll } from 'vitest'
import { tinyModel } from './tiny-model.js'

/**
 * Has to be called in the body of a test file, not in a test.
 *
 * @returns a folder for `env.localModelPath` with the models `tiny-bert` and `tiny-bert-external`; it is removed after all tests
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

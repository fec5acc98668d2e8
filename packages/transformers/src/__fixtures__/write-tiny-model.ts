/** The tiny model as files, for tests in Node. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll } from 'vitest'
import { tinyModel } from './tiny-model.js'

/**
 * To be called where tests are described, or before all of them.
 *
 * @returns a folder, for `env.localModelPath`, with the models `tiny-bert` and `tiny-bert-external` in it, until all tests are done
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

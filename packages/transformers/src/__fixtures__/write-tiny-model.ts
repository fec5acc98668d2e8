/** The tiny model as files, for tests in Node. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { tinyModel } from './tiny-model.js'

/** @returns a folder of its own, for `env.localModelPath`, with the model `tiny-bert` in it */
export function writeTinyModel(): string {
  const root = mkdtempSync(join(tmpdir(), 'fourierft-'))
  for (const [file, content] of Object.entries(tinyModel())) {
    const path = join(root, 'tiny-bert', file)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, content)
  }
  return root
}

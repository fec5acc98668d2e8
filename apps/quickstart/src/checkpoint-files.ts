/** Reads and writes a checkpoint's folder in Node. `checkpoint.ts` describes the format. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writeSafetensors } from '@fourierft/core'
import { type Checkpoint, decodeCheckpoint, float32Tensor } from './checkpoint.js'

/** The folder of the committed base model, which `train-base.ts` wrote. */
export const baseFolder = fileURLToPath(new URL('../base', import.meta.url))

export async function readCheckpoint(folder: string): Promise<Checkpoint> {
  const config = await readFile(join(folder, 'config.json'), 'utf8')
  const file = join(folder, 'model.safetensors')
  return decodeCheckpoint(config, await readFile(file), file)
}

/** @returns the path of the file with the weights */
export async function writeCheckpoint(folder: string, { config, weights }: Checkpoint): Promise<string> {
  const tensors = Array.from(weights, ([name, weight]) => [name, float32Tensor(weight)] as const)
  const bytes = writeSafetensors({ tensors: new Map(tensors), metadata: { format: 'pt' } })
  const file = join(folder, 'model.safetensors')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`)
  await writeFile(file, bytes)
  return file
}

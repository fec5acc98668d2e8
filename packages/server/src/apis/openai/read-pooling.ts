/** How a sentence encoder pools, from the files of sentence-transformers beside the model. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { FourierFTError } from '@fourierft/core'
import * as v from 'valibot'
import type { EmbeddingOptions, Pooling } from './embeddings.js'

const MODES: Readonly<Record<string, Pooling>> = {
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_cls_token: 'cls',
  pooling_mode_lasttoken: 'last_token',
}
const CONFIG = v.record(v.string(), v.unknown())
const MODULES = v.array(v.object({ type: v.string() }))

/**
 * Reads `1_Pooling/config.json`, and `modules.json` for whether vectors get the length 1.
 *
 * @param folder the model's folder
 * @returns undefined if the folder has no such files
 * @throws {FourierFTError} `INVALID_JSON`, `INVALID_CONFIG` for broken files; `UNSUPPORTED` for another kind of pooling than one of `Pooling`
 */
export async function readPooling(folder: string): Promise<EmbeddingOptions | undefined> {
  const file = join(folder, '1_Pooling', 'config.json')
  if (!existsSync(file)) return undefined
  const config = await readJson(file, CONFIG)
  const chosen = Object.keys(config).filter((key) => key.startsWith('pooling_mode_') && config[key] === true)
  const pooling = chosen.length === 1 ? MODES[chosen[0] as string] : undefined
  if (pooling === undefined) {
    throw new FourierFTError('UNSUPPORTED', `the model pools with ${chosen.join(' and ') || 'nothing'}`, {
      file,
      expected: Object.keys(MODES),
      received: chosen,
      advice: 'set the pooling of the server',
    })
  }
  const modules = join(folder, 'modules.json')
  if (!existsSync(modules)) return { pooling }
  const types = (await readJson(modules, MODULES)).map(({ type }) => type)
  return { pooling, normalize: types.some((type) => type.endsWith('.Normalize')) }
}

async function readJson<const Schema extends v.GenericSchema>(
  file: string,
  schema: Schema,
): Promise<v.InferOutput<Schema>> {
  let value: unknown
  try {
    value = JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    throw new FourierFTError('INVALID_JSON', `${file} is not valid JSON`, { file, cause })
  }
  if (!v.is(schema, value)) {
    throw new FourierFTError('INVALID_CONFIG', `${file} does not have the fields of sentence-transformers`, {
      file,
    })
  }
  return value
}

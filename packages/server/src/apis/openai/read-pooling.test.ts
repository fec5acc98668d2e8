/** The pooling files of sentence-transformers. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readPooling } from './read-pooling.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pooling-'))
  await mkdir(join(folder, '1_Pooling'))
})
afterEach(() => rm(folder, { recursive: true }))

const write = (file: string, content: unknown) =>
  writeFile(join(folder, file), typeof content === 'string' ? content : JSON.stringify(content))
const modes = (...chosen: string[]) =>
  Object.fromEntries(
    ['cls_token', 'mean_tokens', 'max_tokens', 'lasttoken'].map((mode) => [
      `pooling_mode_${mode}`,
      chosen.includes(mode),
    ]),
  )

test('models without these files', async () => {
  expect(await readPooling(folder)).toBeUndefined()
})
test.each([
  ['mean_tokens', 'mean'],
  ['cls_token', 'cls'],
  ['lasttoken', 'last_token'],
])('%s', async (mode, pooling) => {
  await write('1_Pooling/config.json', { word_embedding_dimension: 384, ...modes(mode) })
  expect(await readPooling(folder)).toEqual({ pooling })
  const module = (type: string) => ({
    idx: 0,
    name: '0',
    path: '',
    type: `sentence_transformers.models.${type}`,
  })
  await write('modules.json', [module('Transformer'), module('Pooling')])
  expect(await readPooling(folder)).toEqual({ pooling, normalize: false })
  await write('modules.json', [module('Transformer'), module('Pooling'), module('Normalize')])
  expect(await readPooling(folder)).toEqual({ pooling, normalize: true })
})
test('what cannot be done, and broken files', async () => {
  for (const [content, code] of [
    [modes('max_tokens'), 'UNSUPPORTED'],
    [modes('cls_token', 'mean_tokens'), 'UNSUPPORTED'],
    [{}, 'UNSUPPORTED'],
    ['{', 'INVALID_JSON'],
    [5, 'INVALID_CONFIG'],
  ] as const) {
    await write('1_Pooling/config.json', content)
    await expect(readPooling(folder)).rejects.toMatchObject({ code })
  }
})

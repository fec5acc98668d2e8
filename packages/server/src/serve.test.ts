/** `serve`: what it checks before it loads the model, and what it gives the resolvers. */
import { cp, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { MODELS } from './__fixtures__/single-engine.js'
import { type ServeOptions, serve } from './serve.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fourierft-serve-'))
  await cp(join(MODELS, 'bert/adapter-a'), join(folder, 'adapters/first'), { recursive: true })
})
afterAll(() => rm(folder, { recursive: true }))

const options = (): ServeOptions => ({
  model: join(MODELS, 'bert'),
  adapters: join(folder, 'adapters'),
  port: 0,
  native: false,
  logger: false,
})

async function classify(url: string, model: string) {
  const body = JSON.stringify({ model, inputs: 'the cat' })
  const response = await fetch(`${url}/v1/tasks/text-classification`, { method: 'POST', body })
  return { status: response.status, text: await response.text() }
}

test.each([
  ['a folder that does not exist', () => join(folder, 'nowhere')],
  ['a file', () => join(folder, 'adapters/first/adapter_config.json')],
])('rejects %s for adapters', async (_, adapters) => {
  await expect(serve({ ...options(), adapters: adapters() })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    details: { option: 'adapters' },
  })
})

test.each([0, -1, 1.5, Number.NaN])('rejects the limit %d of adapters', async (maxAdapterBytes) => {
  await expect(serve({ ...options(), maxAdapterBytes })).rejects.toThrow('maxAdapterBytes')
})

test('adapters beyond the limit are a 422, from a folder and from a function', async () => {
  for (const adapters of [join(folder, 'adapters'), (name: string) => join(folder, 'adapters', name)]) {
    const small = await serve({ ...options(), adapters, maxAdapterBytes: 1000 })
    const { status, text } = await classify(small.url, 'first')
    expect([status, text]).toEqual([422, expect.stringContaining('adapter_')])
    expect(text).not.toContain(folder)
    await small.close()
  }
  const large = await serve(options())
  expect((await classify(large.url, 'first')).status).toBe(200)
  await large.close()
})

test('a folder that goes away leaves the base model, and a warning in the log', async () => {
  const warnings: string[] = []
  const logger = { info() {}, error() {}, warn: (_: object, line: string) => warnings.push(line) }
  const { url, close } = await serve({ ...options(), logger })
  const names = async () => {
    const response = await fetch(`${url}/v1/models`)
    const { data } = (await response.json()) as { readonly data: readonly { readonly id: string }[] }
    return data.map(({ id }) => id)
  }
  expect(await names()).toEqual(['bert', 'first'])
  await rename(join(folder, 'adapters'), join(folder, 'away'))
  await sleep(1010)
  expect(await names()).toEqual(['bert'])
  expect(warnings).toEqual([expect.stringContaining('cannot be listed (ENOENT)')])
  await rename(join(folder, 'away'), join(folder, 'adapters'))
  await close()
})

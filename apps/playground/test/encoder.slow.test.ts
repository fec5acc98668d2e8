/** The encoder's page in a real Chromium: a real model, an adapter of PEFT swapped in it, a text and an adapter of the visitor's own. */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright'
import { build, type PreviewServer, preview } from 'vite'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CHROMIUM_FLAGS, findChromium } from '../../../test/chromium.js'
import { encoderFiles } from '../page-files/encoder-files.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const repository = fileURLToPath(new URL('../../..', import.meta.url))
const files = ['adapter_config.json', 'adapter_model.safetensors']
const adapterOf = (folder: string) => files.map((name) => join(repository, 'packages', folder, name))

const hasModel = existsSync(join(repository, '.cache/minilm-0.2.1/model.onnx'))
const without = hasModel
  ? ''
  : ' (skipped: node packages/onnxruntime/scripts/minilm.js has not fetched the model)'

let folder: string
let outDir: string
let browser: Browser

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'playground-'))
  outDir = join(folder, 'page')
  await build({ root, logLevel: 'error', build: { outDir } })
  browser = await chromium.launch({ executablePath: findChromium() ?? '', args: CHROMIUM_FLAGS })
}, 120_000)

afterAll(async () => {
  await browser?.close()
  await rm(folder, { recursive: true })
})

describe.skipIf(!hasModel)(`the encoder’s page${without}`, () => {
  let server: PreviewServer
  let page: Page
  const fetched: string[] = []
  const outside: string[] = []
  const complaints: string[] = []

  beforeAll(async () => {
    server = await preview({ root, logLevel: 'error', build: { outDir }, preview: { port: 0 } })
    const [address = ''] = server.resolvedUrls?.local ?? []
    page = await browser.newPage()
    page.on('request', (request) => {
      fetched.push(request.url())
      if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(address))
        outside.push(request.url())
    })
    page.on('pageerror', ({ message }) => complaints.push(message))
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text())
    })
    await page.goto(address)
    await page.getByRole('link', { name: 'Sentence encoder' }).click()
    await status('with the adapter “mails”')
  }, 240_000)

  afterAll(() => server?.close())

  const status = (how: string) =>
    page.locator('#status', { hasText: `Ready. MiniLM runs ${how}.` }).waitFor({ timeout: 200_000 })

  const choose = async (name: string, how: string) => {
    await page.getByRole('radio', { name, exact: true }).check()
    await status(how)
  }

  /** Where the picture has each mail. */
  const scores = () =>
    page
      .locator('#map circle, #map rect')
      .evaluateAll((marks) => marks.map((mark) => Number((mark as SVGElement).dataset.score)))

  const ownScore = () => page.locator('#map .own').evaluate((line: SVGElement) => Number(line.dataset.score))

  /** On the side of their own kind, and how far apart the kinds are. */
  const numbers = async () => [
    Number.parseInt((await page.locator('#right').textContent()) ?? '', 10),
    Number((await page.locator('#gap').textContent()) ?? ''),
  ]

  const opinions = () => page.locator('#opinions article').allInnerTexts()
  const verdicts = async () => (await page.locator('.verdict strong').allTextContents()).map(Number)

  it('shows what the adapter does to mails that it has never seen, and takes it back', async () => {
    expect(await page.locator('#coefficients').textContent()).toBe('18,000')
    const adapted = await scores()
    const [rightWith = Number.NaN, gapWith = Number.NaN] = await numbers()
    await choose('none', 'without adapter')
    const base = await scores()
    const [right = Number.NaN, gap = Number.NaN] = await numbers()
    expect(base).toHaveLength(80)
    expect(base).not.toEqual(adapted)
    // What the adapter was trained for; far from guessing without it, as it is a good encoder.
    expect(right).toBeGreaterThan(60)
    expect(rightWith).toBeGreaterThan(right)
    expect(gapWith).toBeGreaterThan(2 * gap)
    expect(await page.locator('#map svg').getAttribute('aria-label')).toContain(`${right} of 80`)
    expect(await page.locator('#swap').textContent()).toMatch(/^(< )?\d+\.\d ms$/)
    await choose('mails', 'with the adapter “mails”')
    expect(await scores()).toEqual(adapted)
  })

  it('says of a text what the encoder makes of it, a batch with an adapter in each row', async () => {
    await page.getByRole('textbox').fill('Earn money from home, no risk, order your free tapes today!')
    await expect.poll(verdicts).toHaveLength(2)
    await expect.poll(ownScore).toBeGreaterThan(0.5)
    await page.locator('#run', { hasText: 'One run, 2 rows' }).waitFor()
    await expect
      .poll(opinions)
      .toEqual([expect.stringContaining('Without adapter'), expect.stringContaining('With “mails”')])
    // Row by row what each adapter alone says, to the two digits that are shown.
    await expect
      .poll(async () => Math.abs(((await verdicts())[1] ?? 0) - (await ownScore())))
      .toBeLessThan(0.006)
    await choose('none', 'without adapter')
    const [base = Number.NaN, adapted = Number.NaN] = await verdicts()
    expect(Math.abs(base - (await ownScore()))).toBeLessThan(0.006)
    expect(adapted).toBeGreaterThan(base)
    await choose('mails', 'with the adapter “mails”')
  })

  it('takes one of the mails as text, which is not its own neighbour', async () => {
    await page.locator('#map rect').first().dispatchEvent('click')
    const picked = ((await page.locator('#picked').textContent()) ?? '').replace(/^Spam: /, '')
    expect(await page.getByRole('textbox').inputValue()).toBe(picked)
    await page.getByRole('button', { name: 'Take one of the mails' }).press('Enter')
    const taken = await page.getByRole('textbox').inputValue()
    await expect.poll(async () => (await opinions()).join()).not.toContain(taken)
    await page.getByText('All of them as a list').click()
    expect(await page.locator('#mails li').count()).toBe(80)
  })

  it('asked nobody outside, and nothing went wrong unseen', () => {
    expect(fetched.filter((url) => /\/ort-wasm[^/]*\.wasm$/.test(url))).toHaveLength(1)
    expect(outside).toEqual([])
    expect(complaints).toEqual([])
  })

  it('loads an adapter of the visitor’s own beside the others', async () => {
    const before = await scores()
    await page
      .getByLabel('Load the two files')
      .setInputFiles(adapterOf('onnxruntime/test/__fixtures__/minilm/adapter'))
    await status('with the adapter “yours 1”')
    expect(await scores()).toEqual(before)
    await expect.poll(opinions).toHaveLength(3)
  })

  it('says in words what is wrong with one for another model, and goes on with what it has', async () => {
    const before = await scores()
    await page
      .getByLabel('Load the two files')
      .setInputFiles(adapterOf('transformers/test/__fixtures__/gpt2/adapter-a'))
    await page.getByRole('alert').waitFor()
    expect(await page.getByRole('alert').textContent()).toMatch(/c_attn|c_fc|c_proj/)
    await choose('none', 'without adapter')
    await choose('yours 1', 'with the adapter “yours 1”')
    expect(await scores()).toEqual(before)
  })

  it('fits a phone', async () => {
    await page.setViewportSize({ width: 360, height: 740 })
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360)
  })
})

describe('the encoder’s page where the model has not been fetched', () => {
  it('names the command that fetches it', async () => {
    const server = await preview({
      root,
      configFile: false,
      logLevel: 'error',
      plugins: [encoderFiles(join(folder, 'nothing.onnx'))],
      build: { outDir },
      preview: { port: 0 },
    })
    const [address = ''] = server.resolvedUrls?.local ?? []
    const page = await browser.newPage()
    await page.goto(`${address}encoder.html`)
    await page.getByRole('alert').waitFor()
    expect(await page.getByRole('alert').textContent()).toContain(
      'node packages/onnxruntime/scripts/minilm.js',
    )
    expect(await page.getByRole('textbox').isDisabled()).toBe(true)
    await page.close()
    await server.close()
  })
})

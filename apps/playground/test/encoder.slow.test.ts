/** The encoder page in Chromium with the real model: swapping an adapter of PEFT, the visitor's text, and the visitor's adapter. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright'
import { preview } from 'vite'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encoderFiles } from '../page-files/encoder-files.js'
import { type BuiltPage, buildPage } from './build-page.js'
import { type OpenPage, openPage } from './open-page.js'
import { pageConfig } from './page-config.js'
import { TEST_TIMEOUT } from './test-timeout.js'

/** Waits until a value passes the assertion. */
const eventually = <T>(read: () => T) => expect.poll(read, { timeout: TEST_TIMEOUT })

const repository = fileURLToPath(new URL('../../..', import.meta.url))
const files = ['adapter_config.json', 'adapter_model.safetensors']
const adapterOf = (folder: string) => files.map((name) => join(repository, 'packages', folder, name))

const hasModel = existsSync(join(repository, '.cache/minilm-0.2.1/model.onnx'))
const skipped = hasModel ? '' : ' (skipped: fetch the model with node packages/onnxruntime/scripts/minilm.js)'

let built: BuiltPage

beforeAll(async () => {
  built = await buildPage()
}, TEST_TIMEOUT)

afterAll(() => built?.close())

describe.skipIf(!hasModel)(`the encoder page${skipped}`, () => {
  let opened: OpenPage
  let page: Page

  beforeAll(async () => {
    opened = await openPage(built.browser, built.outDir)
    page = opened.page
    await page.getByRole('link', { name: 'Sentence encoder' }).click()
    await status('with the adapter “emails”')
  }, TEST_TIMEOUT)

  afterAll(() => opened?.server.close())

  const status = (how: string) =>
    page.locator('#status', { hasText: `Ready. MiniLM runs ${how}.` }).waitFor({ timeout: TEST_TIMEOUT })

  const choose = async (name: string, how: string) => {
    await page.getByRole('radio', { name, exact: true }).check()
    await status(how)
  }

  /** The score of each email in the picture. */
  const scores = () =>
    page
      .locator('#map circle, #map rect')
      .evaluateAll((marks) => marks.map((mark) => Number((mark as SVGElement).dataset.score)))

  const ownScore = () => page.locator('#map .own').evaluate((line: SVGElement) => Number(line.dataset.score))

  /** The number of emails on the side of their own kind, and the distance of the kinds. */
  const numbers = async () => [
    Number.parseInt((await page.locator('#right').textContent()) ?? '', 10),
    Number((await page.locator('#gap').textContent()) ?? ''),
  ]

  const opinions = () => page.locator('#opinions article').allInnerTexts()
  const verdicts = async () => (await page.locator('.verdict strong').allTextContents()).map(Number)

  it('shows the effect of the adapter on new emails, and removes it again', async () => {
    expect(await page.locator('#coefficients').textContent()).toBe('18,000')
    const adapted = await scores()
    const [rightWith = Number.NaN, gapWith = Number.NaN] = await numbers()
    await choose('none', 'without an adapter')
    const base = await scores()
    const [right = Number.NaN, gap = Number.NaN] = await numbers()
    expect(base).toHaveLength(80)
    expect(base).not.toEqual(adapted)
    // The encoder separates most emails without the adapter, which was trained to separate them.
    // Known results: another rounding can move one email across the border, and a distance on the page by 0.01.
    for (const [value, known, tolerance] of [
      [right, 74, 1],
      [gap, 0.35, 0.01],
      [rightWith, 78, 1],
      [gapWith, 1.38, 0.01],
    ] as const)
      expect(Math.abs(value - known)).toBeLessThanOrEqual(tolerance + 1e-9)
    expect(right).toBeGreaterThan(60)
    expect(rightWith).toBeGreaterThan(right)
    expect(gapWith).toBeGreaterThan(2 * gap)
    expect(await page.locator('#map svg').getAttribute('aria-label')).toContain(`${right} of 80`)
    expect(await page.locator('#swap').textContent()).toMatch(/^(< )?\d+\.\d ms$/)
    await choose('emails', 'with the adapter “emails”')
    expect(await scores()).toEqual(adapted)
  })

  it('scores a text with every adapter in one batch', async () => {
    await page.getByRole('textbox').fill('Earn money from home, no risk, order your free tapes today!')
    await eventually(verdicts).toHaveLength(2)
    await eventually(ownScore).toBeGreaterThan(0.5)
    await page.locator('#run', { hasText: 'One run of 2 rows' }).waitFor()
    await eventually(opinions).toEqual([
      expect.stringContaining('Without an adapter'),
      expect.stringContaining('With “emails”'),
    ])
    // Each row equals the result of its adapter in a separate run, to the two digits on the page.
    await eventually(async () => Math.abs(((await verdicts())[1] ?? 0) - (await ownScore()))).toBeLessThan(
      0.006,
    )
    await choose('none', 'without an adapter')
    const [base = Number.NaN, adapted = Number.NaN] = await verdicts()
    expect(Math.abs(base - (await ownScore()))).toBeLessThan(0.006)
    expect(adapted).toBeGreaterThan(base)
    await choose('emails', 'with the adapter “emails”')
  })

  it('uses an email as the text, and does not list it as its own neighbour', async () => {
    await page.locator('#map rect').first().dispatchEvent('click')
    const picked = ((await page.locator('#picked').textContent()) ?? '').replace(/^Spam: /, '')
    expect(await page.getByRole('textbox').inputValue()).toBe(picked)
    await page.getByRole('button', { name: 'Use one of the emails' }).press('Enter')
    const taken = await page.getByRole('textbox').inputValue()
    await eventually(async () => (await opinions()).join()).not.toContain(taken)
    await page.getByText('All emails as a list').click()
    expect(await page.locator('#emails li').count()).toBe(80)
  })

  it('makes no requests to other hosts, and reports no hidden errors', () => {
    expect(opened.fetched.filter((url) => /\/ort-wasm[^/]*\.wasm$/.test(url))).toHaveLength(1)
    expect(opened.externalRequests).toEqual([])
    expect([...opened.errors, ...opened.consoleErrors]).toEqual([])
  })

  it('loads an adapter of the visitor', async () => {
    const before = await scores()
    await page
      .getByLabel('Load the two files')
      .setInputFiles(adapterOf('onnxruntime/test/__fixtures__/minilm/adapter'))
    await status('with the adapter “yours 1”')
    expect(await scores()).toEqual(before)
    await eventually(opinions).toHaveLength(3)
  })

  it('shows the error of an adapter for another model, and keeps the current adapters', async () => {
    const before = await scores()
    await page
      .getByLabel('Load the two files')
      .setInputFiles(adapterOf('transformers/test/__fixtures__/gpt2/adapter-a'))
    await page.getByRole('alert').waitFor()
    expect(await page.getByRole('alert').textContent()).toMatch(/c_attn|c_fc|c_proj/)
    await choose('none', 'without an adapter')
    await choose('yours 1', 'with the adapter “yours 1”')
    expect(await scores()).toEqual(before)
  })

  it('fits the width of a phone', async () => {
    await page.setViewportSize({ width: 360, height: 740 })
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360)
  })
})

describe('without the model', () => {
  it.each(['encoder', 'classifier'])('the %s page names the command that fetches it', async (name) => {
    const server = await preview({
      ...pageConfig,
      plugins: [encoderFiles(join(built.folder, 'nothing.onnx'))],
      build: { outDir: built.outDir },
      preview: { port: 0 },
    })
    const [address = ''] = server.resolvedUrls?.local ?? []
    const page = await built.browser.newPage()
    page.setDefaultTimeout(TEST_TIMEOUT)
    await page.goto(`${address}${name}.html`)
    await page.getByRole('alert').waitFor()
    expect(await page.getByRole('alert').textContent()).toContain(
      'node packages/onnxruntime/scripts/minilm.js',
    )
    expect(await page.locator('#text').isDisabled()).toBe(true)
    await page.close()
    await server.close()
  })
})

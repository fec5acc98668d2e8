/** The page at `/` in Chromium: the key, the search among thousands of adapters, and two answers side by side. */
import { type Browser, chromium, type Page } from 'playwright'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CHROMIUM_FLAGS, findChromium } from '../../../test/chromium.js'
import { openSingleEngine } from '../src/__fixtures__/single-engine.js'
import { listen, type RunningServer } from '../src/node.js'

const program = findChromium()
const skipped = program === undefined ? ' (skipped: no Chromium was found)' : ''

const CUSTOMERS = Array.from({ length: 10_000 }, (_, i) => ({
  name: `customer-${String(i).padStart(5, '0')}`,
  modified: undefined,
  isResident: false,
  isPinned: false,
}))

describe.skipIf(program === undefined)(`the page${skipped}`, () => {
  let browser: Browser
  const servers: RunningServer[] = []
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: program ?? '', args: CHROMIUM_FLAGS })
  })
  afterAll(async () => {
    await browser.close()
    for (const server of servers) await server.close()
  })

  /** Opens the page on a phone, and types the key. */
  async function open(task: Parameters<typeof openSingleEngine>[0], model: string) {
    const engine = await openSingleEngine(task, model)
    const { list } = engine
    Object.assign(engine, { list: async () => [...(await list()), ...CUSTOMERS] })
    const server = await listen(engine, { port: 0, logger: false, apiKey: 'key', basePath: '/ai' })
    servers.push(server)
    const page = await browser.newPage({ viewport: { width: 375, height: 740 } })
    const problems: string[] = []
    page.on('pageerror', (error) => problems.push(String(error)))
    page.on('requestfailed', (request) => problems.push(request.url()))
    await page.goto(server.url)
    await page.getByLabel('API key').fill('wrong')
    await page.keyboard.press('Enter')
    await page.getByText('does not accept this key').waitFor()
    await page.getByLabel('API key').fill('key')
    await page.keyboard.press('Enter')
    await page.getByText('10,002 adapters.').waitFor()
    return { page, problems }
  }
  const side = (page: Page, name: string) => page.getByRole('group', { name })
  async function compare(page: Page) {
    await page.getByRole('button', { name: 'Compare' }).click()
    await page.locator('#run:enabled').waitFor()
    return page.locator('#answers .answer').allInnerTexts()
  }

  test('classes of a text', async () => {
    const { page, problems } = await open('text-classification', 'bert')
    await side(page, 'Right').getByLabel('Search').fill('adapter-b')
    const [left, right] = await compare(page)
    expect(left).toMatch(/^bad\s+[\d.]+ %\s+good\s+[\d.]+ %\s+neutral\s+[\d.]+ %$/)
    expect(right).toMatch(/bad\s+[\d.]+ %/)
    expect(right).not.toBe(left)
    await side(page, 'Left').getByLabel('Search').fill('0999')
    expect(await side(page, 'Left').getByRole('option').count()).toBe(11)
    expect((await compare(page))[0]).toContain("there is no model or adapter 'customer-00999'")
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(375)
    expect(problems).toEqual([])
  })
  test('text that is generated', async () => {
    const { page, problems } = await open('text-generation', 'gpt2')
    await page.getByLabel('Tokens, at most').fill('20')
    const [left, right] = await compare(page)
    expect(left?.length).toBeGreaterThan(10)
    expect(right?.length).toBeGreaterThan(10)
    expect(right).not.toBe(left)
    expect(problems).toEqual([])
  })
  test('similarity of two texts', async () => {
    const { page, problems } = await open('feature-extraction', 'roberta')
    await page.getByLabel('First text').fill('the river runs')
    await page.getByLabel('Second text').fill('the river runs')
    expect((await compare(page)).map((text) => text.slice(0, 5))).toEqual(['1.000', '1.000'])
    expect(problems).toEqual([])
  })
})

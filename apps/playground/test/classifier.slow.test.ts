/** The classifier page in Chromium with the real model: training on examples, new text, bad input, and the saved adapter in Node. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CONFIG_FILE, MODEL_FILE } from '@fourierft/core'
import { attach } from '@fourierft/transformers'
import { env, pipeline } from '@huggingface/transformers'
import type { Page } from 'playwright'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { examples } from '../src/classifier/examples.js'
import { type BuiltPage, buildPage } from './build-page.js'
import { type OpenPage, openPage } from './open-page.js'
import { TEST_TIMEOUT } from './test-timeout.js'

/** Waits until a value passes the assertion. */
const eventually = <T>(read: () => T) => expect.poll(read, { timeout: TEST_TIMEOUT })

const model = fileURLToPath(new URL('../../../.cache/minilm-0.2.1/model.onnx', import.meta.url))
const skipped = existsSync(model)
  ? ''
  : ' (skipped: fetch the model with node packages/onnxruntime/scripts/minilm.js)'

/** Texts that are not among the examples, in other words. */
const newTexts = [
  ['My package is three days late.', 'delivery'],
  ['I would like a refund.', 'payment'],
  ['I forgot my password.', 'account'],
] as const

describe.skipIf(skipped !== '')(`the classifier page${skipped}`, () => {
  let built: BuiltPage
  let opened: OpenPage
  let page: Page

  beforeAll(async () => {
    built = await buildPage()
    opened = await openPage(built.browser, built.outDir)
    page = opened.page
    await page.getByRole('link', { name: 'Your own classifier' }).click()
    await status(/^Ready/)
  }, TEST_TIMEOUT)

  afterAll(async () => {
    await opened?.server.close()
    await built?.close()
  })

  const status = (text: RegExp) =>
    page.locator('#status', { hasText: text }).waitFor({ timeout: TEST_TIMEOUT })

  const press = (name: string) => page.getByRole('button', { name, exact: true }).click()

  const train = async (passes: number) => {
    await page.getByLabel('Passes').fill(`${passes}`)
    await press('Train')
  }

  /** The likeliest label of a new text, and its probability in %. */
  const answerTo = async (text: string) => {
    const rows = page.locator('#answers tr')
    await page.getByLabel('Which label').fill('')
    await eventually(() => rows.count()).toBe(0)
    await page.getByLabel('Which label').fill(text)
    const [label, percent] = await Promise.all(
      ['th', 'td'].map((cell) => rows.first().locator(cell).textContent()),
    )
    return { label, percent: Number.parseFloat(percent ?? '') }
  }

  it('shows the position of a wrong example, and trains nothing', async () => {
    await press('Add an example')
    await page.locator('#examples textarea').last().fill('A text without a label.')
    await press('Train')
    await page.getByRole('alert').waitFor()
    const message = await page.getByRole('alert').textContent()
    expect(message).toMatch(/^Example 13, label: /)
    const label = page.locator('#examples li').last().getByLabel('Label')
    expect(await label.evaluate((field: HTMLInputElement) => field.validationMessage)).toBe(message)
    expect(await page.getByLabel('Which label').isDisabled()).toBe(true)
    await page.locator('#examples li').last().getByRole('button', { name: 'Remove' }).click()
  })

  it('stops on request', async () => {
    await train(1000)
    await status(/^Training: step [3-9]/)
    await press('Stop')
    await status(/^Stopped after \d+ steps/)
  })

  it('learns the examples, and draws the loss', async () => {
    await train(15)
    await status(/^Trained after 45 steps/)
    expect(await page.locator('#right').textContent()).toBe(`${examples.length} of ${examples.length}`)
    expect(await page.locator('#coefficients').textContent()).toBe('6,000')
    const points = await page.locator('#loss-curve .raw').getAttribute('points')
    expect(points?.trim().split(/\s+/)).toHaveLength(45)
    expect(await page.locator('#loss-curve svg').getAttribute('aria-label')).toContain('45 of 45')
    expect(await page.getByRole('alert').isVisible()).toBe(false)
  })

  it('classifies new texts, and saves an adapter that gives the same answers in Node', async () => {
    const answers = []
    for (const [text, label] of newTexts) {
      const answer = await answerTo(text)
      expect(answer.label).toBe(label)
      answers.push(answer)
    }
    const files: string[] = []
    page.on('download', async (file) => {
      await file.saveAs(join(built.folder, 'mine', file.suggestedFilename()))
      files.push(file.suggestedFilename())
    })
    await press('Download both files')
    await eventually(() => files.sort()).toEqual([CONFIG_FILE, MODEL_FILE])

    env.remoteHost = opened.server.resolvedUrls?.local[0] ?? ''
    env.remotePathTemplate = 'models/{model}/'
    env.allowLocalModels = false
    env.cacheDir = join(built.folder, 'models')
    const classify = await pipeline('text-classification', 'minilm', { dtype: 'fp32' })
    const adapters = await attach(classify)
    await adapters.loadAdapter(join(built.folder, 'mine'))
    for (const [i, [text]] of newTexts.entries()) {
      const [answer] = (await classify(text)) as { label: string; score: number }[]
      expect(answer?.label).toBe(answers[i]?.label)
      // The page rounds to 0.1 %. Two runtimes round logits below 10 differently by less than 1e-4.
      expect(Math.abs(100 * (answer?.score ?? 0) - (answers[i]?.percent ?? 0))).toBeLessThan(0.05 + 0.01)
    }
    await classify.dispose()
  })

  it('learns other labels from cells of a spreadsheet', async () => {
    await press('Remove all')
    const cells = [
      'The soup was wonderful.\tpraise',
      '"The waiter was rude.\nWe waited for an hour."\tcomplaint',
      'Best pizza in town, we will be back.\tpraise',
      'My steak was cold, and the bill was wrong.\tcomplaint',
    ].join('\n')
    await page.locator('#examples textarea').evaluate((field, text) => {
      const clipboardData = new DataTransfer()
      clipboardData.setData('text/plain', text)
      field.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }))
    }, cells)
    expect(await page.locator('#examples li').count()).toBe(4)
    await train(15)
    await status(/^Trained after 15 steps/)
    expect(await page.locator('#right').textContent()).toBe('4 of 4')
    expect((await answerTo('The dessert was excellent.')).label).toBe('praise')
  })

  it('fits the width of a phone', async () => {
    await page.setViewportSize({ width: 360, height: 740 })
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360)
  })

  it('makes no requests to other hosts, and reports no hidden errors', () => {
    expect(opened.externalRequests).toEqual([])
    expect(opened.errors).toEqual([])
  })
})

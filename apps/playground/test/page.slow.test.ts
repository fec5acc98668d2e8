/** The built digits page in Chromium, used as a visitor would: training, drawing, saving and loading. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CONFIG_FILE, loadAdapter, MODEL_FILE } from '@fourierft/core'
import type { Page } from 'playwright'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type BuiltPage, buildPage } from './build-page.js'
import { type OpenPage, openPage } from './open-page.js'
import { TEST_TIMEOUT } from './test-timeout.js'

/** Waits until a value passes the assertion. */
const eventually = <T>(read: () => T) => expect.poll(read, { timeout: TEST_TIMEOUT })

const steps = 30

/**
 * Correctly classified test digits in %, computed in Node with the page's digits, seed and settings on WebAssembly. One of the 500 digits may be so
 * close to the decision boundary that rounding differences change its label.
 */
const known = { frozen: 39.2, afterOneStep: 42.2, afterAllSteps: 75.4 } as const
const oneDigit = 0.2 + 1e-9

describe('the page', () => {
  let built: BuiltPage
  let opened: OpenPage
  let page: Page

  beforeAll(async () => {
    built = await buildPage()
    opened = await openPage(built.browser, built.outDir)
    page = opened.page
    await status(/^Ready/)
  }, TEST_TIMEOUT)

  afterAll(async () => {
    await opened?.server.close()
    await built?.close()
  })

  const status = (text: RegExp) =>
    page.locator('#status', { hasText: text }).waitFor({ timeout: TEST_TIMEOUT })

  /** The accuracy on the page, in %. */
  const accuracy = async (model: 'frozen' | 'tuned' | 'onnx') =>
    Number.parseFloat((await page.locator(`#${model}-score`).textContent()) ?? '')

  const train = async (count: number) => {
    await page.getByLabel('Steps', { exact: true }).fill(`${count}`)
    await page.getByRole('button', { name: 'Fine-tune' }).click()
    await status(new RegExp(`^Fine-tuned after ${count} steps`))
  }

  /** Draws a seven with the mouse. */
  const draw = async () => {
    await page.locator('#canvas').scrollIntoViewIfNeeded()
    const box = await page.locator('#canvas').boundingBox()
    if (box === null) throw new Error('the canvas is not visible')
    const move = (x: number, y: number) =>
      page.mouse.move(box.x + x * box.width, box.y + y * box.height, { steps: 5 })
    await move(0.3, 0.25)
    await page.mouse.down()
    await move(0.7, 0.25)
    await move(0.45, 0.8)
    await page.mouse.up()
  }

  /** The probabilities in the table, in %. */
  const probabilities = async (model: 'frozen' | 'tuned') =>
    (await page.locator(`td.${model}`).allTextContents()).map((text) => Number.parseFloat(text))

  it('uses WebAssembly if the GPU is emulated, and tests the frozen model', async () => {
    expect(await page.getByLabel('Computes with').inputValue()).toBe('wasm')
    expect(Math.abs((await accuracy('frozen')) - known.frozen)).toBeLessThanOrEqual(oneDigit)
  })

  it('stops on request', async () => {
    await page.getByLabel('Steps', { exact: true }).fill('5000')
    await page.getByRole('button', { name: 'Fine-tune' }).click()
    // The page responds while it trains.
    await eventually(() =>
      page.locator('#progress').evaluate((bar: HTMLProgressElement) => bar.value),
    ).toBeGreaterThan(2)
    await page.getByRole('button', { name: 'Stop' }).click()
    await status(/^Stopped after \d+ steps/)
  })

  it('fine-tunes to the known accuracy, and draws the curve', async () => {
    await train(steps)
    expect(Math.abs((await accuracy('tuned')) - known.afterAllSteps)).toBeLessThanOrEqual(oneDigit)
    const points = await page.locator('#loss-curve .raw').getAttribute('points')
    expect(points?.trim().split(/\s+/)).toHaveLength(steps)
    expect(await page.locator('#loss-curve svg').getAttribute('aria-label')).toContain(`${steps} of ${steps}`)
  })

  it('gives the same predictions in ONNX Runtime Web, whose WebAssembly comes from the page', async () => {
    const answer = (await page.locator('#onnx-answer').textContent()) ?? ''
    expect(answer).toContain('500 of 500 labels are the same')
    const [difference = Number.NaN, limit = Number.NaN] = [...answer.matchAll(/\d\.\de-\d/g)].map(Number)
    expect(difference).toBeLessThanOrEqual(limit)
    expect(await accuracy('onnx')).toBe(await accuracy('tuned'))
    expect(opened.fetched.filter((url) => /\/ort-wasm[^/]*\.wasm$/.test(url))).toHaveLength(1)
  })

  it('classifies a drawing with both models', async () => {
    await draw()
    await page.locator('#answer', { hasText: 'The frozen model predicts' }).waitFor()
    // The text appears after the predictions for the last segment of the line.
    await eventually(() => page.locator('#answer').textContent()).toContain('fine-tuned model')
    const [frozen, tuned] = [await probabilities('frozen'), await probabilities('tuned')]
    // Ten numbers, each rounded to 0.1 %.
    for (const column of [frozen, tuned]) {
      expect(column).toHaveLength(10)
      expect(Math.abs(column.reduce((sum, part) => sum + part, 0) - 100)).toBeLessThanOrEqual(
        10 * 0.05 + 1e-9,
      )
    }
    expect(frozen).not.toEqual(tuned)
  })

  it('uses a test digit instead of a drawing, and clears it', async () => {
    await page.getByRole('button', { name: 'Use a test digit' }).press('Enter')
    await page.locator('#answer', { hasText: 'The frozen model predicts' }).waitFor()
    await page.getByRole('button', { name: 'Clear' }).press('Enter')
    await eventually(() => page.locator('td.tuned').first().textContent()).toBe('–')
  })

  it('saves the adapter in files that core and the page load', async () => {
    const learned = await accuracy('tuned')
    const files = new Map<string, string>()
    page.on('download', async (file) => {
      const path = join(built.folder, file.suggestedFilename())
      await file.saveAs(path)
      files.set(file.suggestedFilename(), path)
    })
    await page.getByRole('button', { name: 'Download' }).click()
    await eventually(() => [...files.keys()].sort()).toEqual([CONFIG_FILE, MODEL_FILE])
    const adapter = await loadAdapter({
      config: await readFile(join(built.folder, CONFIG_FILE)),
      model: await readFile(join(built.folder, MODEL_FILE)),
    })
    expect(adapter.config.targetModules).toEqual(['query', 'value'])
    const numbers = [...adapter.modules.values()].flatMap(({ coefficients }) => [...coefficients])
    expect(numbers).toHaveLength(6 * 256)
    expect(numbers.some((value) => value !== 0)).toBe(true)

    await train(1)
    expect(Math.abs((await accuracy('tuned')) - known.afterOneStep)).toBeLessThanOrEqual(oneDigit)
    await page.getByLabel('Load the two files').setInputFiles([...files.values()])
    await status(/^Loaded/)
    expect(await accuracy('tuned')).toBe(learned)
    expect(await accuracy('onnx')).toBe(learned)
  })

  it('shows the error of a broken file, and keeps the current adapter', async () => {
    const learned = await accuracy('tuned')
    const broken = join(built.folder, 'broken', MODEL_FILE)
    await mkdir(join(built.folder, 'broken'))
    await writeFile(broken, 'not safetensors')
    await page.getByLabel('Load the two files').setInputFiles([join(built.folder, CONFIG_FILE), broken])
    await page.getByRole('alert').waitFor()
    expect(await page.getByRole('alert').textContent()).toContain(MODEL_FILE)
    expect(await accuracy('tuned')).toBe(learned)
  })

  it('keeps the adapter on WebGL, and trains there', async () => {
    const learned = await accuracy('tuned')
    await page.getByLabel('Computes with').selectOption('webgl')
    await status(/^Ready. The backend is WebGL/)
    expect(Math.abs((await accuracy('tuned')) - learned)).toBeLessThanOrEqual(oneDigit)
    expect(await accuracy('onnx')).toBe(learned)
    await train(1)
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

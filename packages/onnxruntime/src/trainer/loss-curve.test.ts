/** The curve of a report: its texts, and its lines in the coordinates of the picture. */
import { afterEach, expect, test, vi } from 'vitest'
import { lossCurve } from './loss-curve.js'

const stepsOf = (count: number, first = 1) =>
  Array.from({ length: count }, (_, i) => ({
    step: first + i,
    loss: 4 - i / count,
    gradientNorm: 1,
    learningRate: 0.01 * (count - i),
    longestBlock: 1,
  }))
const epochs = [
  { epoch: 0, step: 4, loss: 3.8, evaluationLoss: 3.5 },
  { epoch: 1, step: 8, loss: 3.4, evaluationLoss: 3.25 },
]

const textsOf = (svg: string) => Array.from(svg.matchAll(/<text[^>]*>([^<]*)</g), ([, text]) => text)

/** The points of the line with that colour. */
function lineOf(svg: string, colour: string): number[][] {
  const [, path = ''] = svg.match(new RegExp(`<path d="M([^"]*)" stroke="${colour}"`)) ?? []
  return path.split('L').map((point) => point.split(',').map(Number))
}

const [GREY, BLUE, VERMILLION, GREEN] = ['#8c8c8c', '#0072b2', '#d55e00', '#009e73']

test('has titles, a legend and one line for each kind of loss and for the rate', async () => {
  const svg = await lossCurve(JSON.parse(JSON.stringify({ steps: stepsOf(8), epochs })))
  expect(svg).toMatch(/^<svg .*<rect [^>]*fill="white"/)
  const texts = textsOf(svg)
  const titles = ['loss', 'learning rate', 'step']
  const names = ['training, each step', 'training, mean of each epoch', 'evaluation']
  for (const text of [...titles, ...names]) expect(texts).toContain(text)

  const losses = lineOf(svg, GREY)
  expect(losses).toHaveLength(8)
  // Step 8 is at the right end, and step 4 in the middle.
  const [middle, end] = [lineOf(svg, BLUE), lineOf(svg, VERMILLION)].map((line) => line.map(([x]) => x))
  expect(middle).toEqual([280, 560])
  expect(end).toEqual([280, 560])
  expect([losses[3][0], losses[7][0]]).toEqual([280, 560])
  // Heights are proportional to the losses: 4, 3.5 and 3.25 of the evaluation.
  const [[, evaluated], [, last]] = lineOf(svg, VERMILLION)
  expect((last - losses[0][1]) / (evaluated - losses[0][1])).toBeCloseTo(1.5, 2)
  const rates = lineOf(svg, GREEN).map(([, y]) => y)
  expect(rates).toHaveLength(8)
  expect(rates.toSorted((a, b) => a - b)).toEqual(rates)
})

test('draws a run without epochs and evaluation, and one of a single step', async () => {
  const svg = await lossCurve({ steps: stepsOf(5, 101), epochs: [] })
  expect(textsOf(svg)).not.toContain('evaluation')
  expect(lineOf(svg, GREY).map(([x]) => x)).toEqual([112, 224, 336, 448, 560])
  expect(await lossCurve({ steps: stepsOf(1), epochs: [] })).not.toContain('NaN')
})

test('draws many steps as means', async () => {
  const svg = await lossCurve({ steps: stepsOf(3500), epochs: [] })
  expect(textsOf(svg)).toContain('training, mean of 4 steps')
  expect(lineOf(svg, GREY)).toHaveLength(875)
})

test('rejects a report without steps', async () => {
  await expect(lossCurve({ steps: [], epochs: [] })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
})

afterEach(() => {
  vi.doUnmock('vega')
})

test('says that vega is missing', async () => {
  vi.doMock('vega', () => {
    throw new Error("Cannot find package 'vega'")
  })
  await expect(lossCurve({ steps: stepsOf(2), epochs: [] })).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringContaining('npm i vega'),
  })
})

import { Tensor } from 'onnxruntime-common'
import { expect, test } from 'vitest'
import vectors from './__fixtures__/vectors.json' with { type: 'json' }
import { ClassMetric, MultiLabelMetric, NumberMetric, PairMetric, Perplexity } from './metrics.js'

const float = (values: readonly number[], dims: readonly number[]) =>
  new Tensor('float32', Float32Array.from(values), dims)
const int = (values: readonly number[], dims: readonly number[]) =>
  new Tensor('int64', BigInt64Array.from(values, BigInt), dims)

test('classes: as scikit-learn, over several batches, without positions that do not count', () => {
  const { labels, predictions, accuracy, f1, f1OfClasses, matthews } = vectors.metrics.classes
  const metric = new ClassMetric(['a', 'b', 'c', 'd'])
  for (const [start, end] of [
    [0, 17],
    [17, 40],
  ]) {
    const rows = [...predictions.slice(start, end), 0]
    const logits = rows.flatMap((prediction) => [0, 1, 2, 3].map((c) => (c === prediction ? 1 : -c)))
    metric.add(float(logits, [rows.length, 4]), {
      feeds: {},
      labels: int([...labels.slice(start, end), -100], [rows.length]),
    })
  }
  const result = metric.result()
  expect(result.accuracy).toBeCloseTo(accuracy, 12)
  expect(result.f1).toBeCloseTo(f1, 12)
  expect(result.matthews).toBeCloseTo(matthews, 12)
  expect(['a', 'b', 'c', 'd'].map((name) => result[`f1:${name}`])).toEqual(
    f1OfClasses.map((value) => expect.closeTo(value, 12)),
  )
})

test('several classes: as scikit-learn', () => {
  const { labels, predictions, accuracy, f1 } = vectors.metrics.several
  const metric = new MultiLabelMetric(['a', 'b', 'c'])
  const logits = predictions.flat().map((isPredicted) => isPredicted - 0.5)
  metric.add(float(logits, [12, 3]), { feeds: {}, labels: float(labels.flat(), [12, 3]) })
  expect(metric.result()).toMatchObject({
    accuracy: expect.closeTo(accuracy, 12),
    f1: expect.closeTo(f1, 12),
  })
})

test('numbers: the correlation of ranks is that of SciPy, with equal values', () => {
  const { a, b, spearman } = vectors.metrics.numbers
  const metric = new NumberMetric()
  metric.add(float(a.slice(0, 10), [10, 1]), { feeds: {}, labels: float(b.slice(0, 10), [10, 1]) })
  metric.add(float(a.slice(10), [20, 1]), { feeds: {}, labels: float(b.slice(10), [20, 1]) })
  expect(metric.result().spearman).toBeCloseTo(spearman, 12)
})

test('pairs: cosines of the means over the tokens of the mask', () => {
  // Cosines of 1, 0 and −1; the last token of each row is padding.
  const directions = [
    [1, 0],
    [1, 0],
    [1, 0],
    [2, 0],
    [0, 3],
    [-1, 0],
  ]
  const output = float(
    directions.flatMap(([x, y]) => [x, y, x, y, 50, -70]),
    [6, 3, 2],
  )
  const feeds = {
    attention_mask: int(
      Array.from({ length: 18 }, (_, i) => (i % 3 === 2 ? 0 : 1)),
      [6, 3],
    ),
  }
  const resultOf = (scores: readonly number[]) => {
    const metric = new PairMetric('attention_mask')
    metric.add(output, { feeds, labels: float(scores, [3]) })
    return metric.result().spearman
  }
  expect(resultOf([0.9, 0.5, 0.1])).toBeCloseTo(1, 12)
  expect(resultOf([0.1, 0.5, 0.9])).toBeCloseTo(-1, 12)
  const metric = new PairMetric(undefined)
  metric.add(float(directions.flat(), [6, 2]), { feeds: {}, labels: float([0.5, 0.9, 0.1], [3]) })
  expect(metric.result().spearman).toBeCloseTo(0.5, 12)
})

test('perplexity is the exponential of the loss', () => {
  expect(new Perplexity().result(Math.log(7)).perplexity).toBeCloseTo(7, 12)
})

test('outputs in float16', () => {
  // 1, −2, 0.5 and 0.25.
  const halves = Uint16Array.of(0x3c00, 0xc000, 0x3800, 0x3400)
  const metric = new ClassMetric(['a', 'b'])
  metric.add({ type: 'float16', data: halves, dims: [2, 2] } as unknown as Tensor, {
    feeds: {},
    labels: int([0, 0], [2]),
  })
  expect(metric.result().accuracy).toBe(1)
})

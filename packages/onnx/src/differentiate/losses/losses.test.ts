/** The losses against their definitions in float64, and their gradients against central differences of the definitions. */
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { createSession } from '../../__fixtures__/onnx-runtime.js'
import { createModel } from '../../model/create-model.js'
import { DataType } from '../../model/schema.js'
import { numbers } from '../__fixtures__/check-gradient.js'
import { makeTrainingGraph } from '../training-graph.js'
import { type CrossEntropyOptions, crossEntropy } from './cross-entropy.js'
import type { Loss } from './loss.js'
import { contrastive, cosineSimilarity } from './pairs.js'
import { binaryCrossEntropy, meanSquaredError } from './regression.js'
import { scalarLoss } from './scalar-loss.js'

interface Definition {
  readonly sum: number
  readonly count: number
}

interface LossCase {
  readonly name: string
  readonly loss: Loss
  readonly dims: readonly number[]
  readonly labels?: Tensor
  /** 1 for tokens, 0 for padding. */
  readonly mask?: Tensor
  readonly define: (x: readonly number[]) => Definition
}

/** `torch.nn.CrossEntropyLoss`, written out. */
function entropyOf(classes: number, labels: readonly number[], options: CrossEntropyOptions) {
  const {
    ignoreIndex = -100,
    labelSmoothing = 0,
    weights = Array.from({ length: classes }, () => 1),
  } = options
  return (x: readonly number[]): Definition => {
    let [sum, count] = [0, 0]
    for (const [row, label] of labels.entries()) {
      if (label === ignoreIndex) continue
      const logits = x.slice(row * classes, (row + 1) * classes)
      const total = Math.log(logits.reduce((part, value) => part + Math.exp(value), 0))
      const logarithms = logits.map((value) => value - total)
      const smooth = logarithms.reduce((part, value, c) => part + (weights[c] * value) / classes, 0)
      sum -= (1 - labelSmoothing) * weights[label] * logarithms[label] + labelSmoothing * smooth
      count += weights[label]
    }
    return { sum, count }
  }
}

function entropyCase(
  name: string,
  options: CrossEntropyOptions,
  dims: readonly number[],
  labels: readonly number[],
): LossCase {
  const classes = dims.at(-1) ?? 0
  return {
    name: `crossEntropy, ${name}`,
    loss: crossEntropy('y', options),
    dims,
    labels: new Tensor('int64', BigInt64Array.from(labels, BigInt), dims.slice(0, -1)),
    define: entropyOf(classes, labels, options),
  }
}

const targets = numbers([2, 3], 9, 0, 1)
const elementwise = (name: string, loss: Loss, term: (x: number, y: number) => number): LossCase => ({
  name,
  loss,
  dims: [2, 3],
  labels: new Tensor('float32', Float32Array.from(targets.data), [2, 3]),
  define: (x) => ({ sum: x.reduce((sum, value, i) => sum + term(value, targets.data[i]), 0), count: 6 }),
})

const MASK = [1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1]

/** The embeddings of both sentences of each pair: means over the tokens of the mask, divided by their norms. */
function pairsOf(x: readonly number[], [rows, tokens, width]: readonly [number, number, number]) {
  const directions = Array.from({ length: rows }, (_, row) => {
    const mask = tokens === 1 ? [1] : MASK.slice(row * tokens, (row + 1) * tokens)
    const mean = Array.from({ length: width }, (_, d) =>
      mask.reduce((sum, weight, t) => sum + weight * x[(row * tokens + t) * width + d], 0),
    )
    const norm = Math.hypot(...mean)
    return mean.map((value) => value / norm)
  })
  return [directions.slice(0, rows / 2), directions.slice(rows / 2)] as const
}
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, value, i) => sum + value * b[i], 0)

const similarities = [0.9, -0.3, 0]
function cosineOf(sizes: readonly [number, number, number]) {
  return (x: readonly number[]): Definition => {
    const [first, second] = pairsOf(x, sizes)
    return {
      sum: first.reduce((sum, a, i) => sum + (dot(a, second[i]) - similarities[i]) ** 2, 0),
      count: first.length,
    }
  }
}
/** The cross-entropy of the rows of the matrix of all cosines. */
function contrastOf(sizes: readonly [number, number, number], scale: number) {
  return (x: readonly number[]): Definition => {
    const [first, second] = pairsOf(x, sizes)
    const terms = first.map((a, i) => {
      const total = second.reduce((sum, b) => sum + Math.exp(scale * dot(a, b)), 0)
      return Math.log(total) - scale * dot(a, second[i])
    })
    return { sum: terms.reduce((sum, term) => sum + term, 0), count: first.length }
  }
}
const mask = new Tensor('int64', BigInt64Array.from(MASK, BigInt), [6, 3])
const cosines = new Tensor('float32', Float32Array.from(similarities), [3])

const cases: readonly LossCase[] = [
  entropyCase('a class for each row', {}, [4, 3], [2, 0, 1, 2]),
  entropyCase('tokens with ignored positions', {}, [2, 3, 5], [4, -100, 0, -100, -100, 2]),
  entropyCase('another ignored label', { ignoreIndex: 0 }, [4, 3], [0, 2, 1, 0]),
  entropyCase('label smoothing', { labelSmoothing: 0.1 }, [4, 3], [2, 0, -100, 1]),
  entropyCase('weights', { weights: [0.5, 2, 0] }, [4, 3], [2, 0, 1, 1]),
  entropyCase(
    'weights and label smoothing',
    { weights: [0.5, 2, 1], labelSmoothing: 0.2 },
    [4, 3],
    [2, 0, 1, 1],
  ),
  elementwise('meanSquaredError', meanSquaredError('y'), (x, y) => (x - y) ** 2),
  elementwise(
    'binaryCrossEntropy',
    binaryCrossEntropy('y'),
    (x, y) => Math.max(x, 0) - x * y + Math.log1p(Math.exp(-Math.abs(x))),
  ),
  {
    name: 'cosineSimilarity of tokens',
    loss: cosineSimilarity('y'),
    dims: [6, 3, 4],
    labels: cosines,
    mask,
    define: cosineOf([6, 3, 4]),
  },
  {
    name: 'cosineSimilarity of embeddings',
    loss: cosineSimilarity('y', { pooling: 'none' }),
    dims: [6, 4],
    labels: cosines,
    define: cosineOf([6, 1, 4]),
  },
  {
    name: 'contrastive of tokens',
    loss: contrastive('y', { scale: 5 }),
    dims: [6, 3, 4],
    mask,
    define: contrastOf([6, 3, 4], 5),
  },
  {
    name: 'contrastive of embeddings',
    loss: contrastive('y', { pooling: 'none' }),
    dims: [6, 4],
    define: contrastOf([6, 1, 4], 20),
  },
  { name: 'scalarLoss', loss: scalarLoss('y'), dims: [1], define: (x) => ({ sum: x[0], count: 1 }) },
]

describe.each(cases)('$name', ({ loss, dims, labels, mask, define }) => {
  const x = numbers(dims, 5)

  async function compute(dataType: number = DataType.float, scale = 1) {
    const value = (name: string) => ({
      name,
      dataType: DataType.float,
      dims: dims.map((_, i) => `${name}${i}`),
    })
    const isHalf = dataType === DataType.float16
    const model = createModel(
      {
        name: 'main',
        nodes: isHalf
          ? [{ opType: 'Cast', inputs: ['x'], outputs: ['y'], attributes: { to: { int: dataType } } }]
          : [{ opType: 'Identity', inputs: ['x'], outputs: ['y'] }],
        inputs: [
          value('x'),
          ...(mask ? [{ name: 'attention_mask', dataType: DataType.int64, dims: ['rows', 'tokens'] }] : []),
        ],
        outputs: [{ ...value('y'), dataType }],
      },
      { opset: 17 },
    )
    const graph = makeTrainingGraph(model, { loss, targets: ['x'] })
    const session = await createSession(model.toBytes())
    const feeds = {
      x: new Tensor('float32', Float32Array.from(x.data), dims),
      ...(mask && { attention_mask: mask }),
      ...(graph.labels && { [graph.labels]: labels as Tensor }),
      ...(graph.lossScale && { [graph.lossScale]: new Tensor('float32', Float32Array.of(scale), []) }),
    }
    const results = await session.run(feeds)
    await session.release()
    return {
      sum: Number(results[graph.loss].data[0]),
      count: Number(results[graph.count].data[0]),
      gradient: Array.from(results[graph.gradients.get('x') as string].data as Float32Array),
    }
  }

  test('gives the sum of the losses, their count and the gradient', async () => {
    const { sum, count, gradient } = await compute()
    const expected = define(x.data)
    expect(count).toBe(expected.count)
    // A few dozen roundings of numbers below 10.
    expect(sum).toBeCloseTo(expected.sum, 4)
    const h = 1e-5
    const moved = (i: number, by: number) =>
      define(x.data.map((value, k) => (k === i ? value + by : value))).sum
    const differences = x.data.map((_, i) => (moved(i, h) - moved(i, -h)) / (2 * h))
    for (const [i, value] of gradient.entries()) expect(value).toBeCloseTo(differences[i], 5)
  })

  test('computes float16 outputs in float32', async () => {
    const { sum, gradient } = await compute(DataType.float16)
    const expected = define(x.data)
    // The logits, below 2, are rounded to 11 bits.
    expect(Math.abs(sum - expected.sum)).toBeLessThan(2 ** -10 * x.data.length)
    // Each number is rounded once, to 11 bits or to a multiple of 2⁻²⁴.
    const scaled = await compute(DataType.float16, 1024)
    for (const [i, value] of scaled.gradient.entries()) {
      const limit = 2 ** -11 * (Math.abs(gradient[i]) + Math.abs(value / 1024)) + 2 ** -25
      expect(Math.abs(value / 1024 - gradient[i])).toBeLessThanOrEqual(limit)
    }
  })
})

test.each([
  [() => cosineSimilarity('y', { pooling: 'max' as 'mean' }), 'pooling'],
  [() => cosineSimilarity('y', { scale: 3 } as object), 'scale'],
  [() => contrastive('y', { scale: 0 }), 'scale'],
  [() => contrastive('y', { mask: 3 as never }), 'mask'],
])('losses of pairs reject wrong options: %s', (make, option) => {
  expect(make).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION', details: expect.objectContaining({ option }) }),
  )
})

test('a loss rejects a model without the input that it reads', () => {
  const [x, y] = ['x', 'y'].map((name) => ({ name, dataType: DataType.float, dims: ['b', 't', 'd'] }))
  const nodes = [{ opType: 'Identity', inputs: ['x'], outputs: ['y'] }]
  const model = createModel({ name: 'main', nodes, inputs: [x], outputs: [y] }, { opset: 17 })
  expect(() => makeTrainingGraph(model, { loss: contrastive('y'), targets: ['x'] })).toThrow(
    /has no input "attention_mask"; it has x/,
  )
})

test.each([
  [{ labelSmoothing: 1 }, 'labelSmoothing'],
  [{ ignoreIndex: 0.5 }, 'ignoreIndex'],
  [{ weights: [1, -1] }, 'weights'],
  [{ weights: 5 as never }, 'weights'],
  [{ labelSmothing: 0.5 } as object, 'labelSmothing'],
])('crossEntropy rejects %j', (options, option) => {
  expect(() => crossEntropy('y', options)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION', details: expect.objectContaining({ option }) }),
  )
})

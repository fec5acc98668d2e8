/** Metrics of evaluations, as scikit-learn and SciPy define them. */
import { decodeFloats } from '@fourierft/core'
import type { Metric, TrainingBatch } from '@fourierft/onnxruntime'
import type { Tensor } from 'onnxruntime-common'

/** The label of positions that do not count. */
export const IGNORED = -100

/**
 * One class for each row, or for each token: `accuracy`, `f1` (the mean over all classes that occur, in the labels or the predictions), `matthews`,
 * and `f1:NAME` for each class.
 *
 * @see scikit-learn: `f1_score(average='macro')`, `matthews_corrcoef`
 */
export class ClassMetric implements Metric {
  readonly #names: readonly string[]
  /** For each class, the number of its labels, of its predictions, and of right predictions. */
  readonly #labels: number[]
  readonly #predictions: number[]
  readonly #right: number[]

  constructor(names: readonly string[]) {
    this.#names = names
    this.#labels = names.map(() => 0)
    this.#predictions = names.map(() => 0)
    this.#right = names.map(() => 0)
  }

  add(output: Tensor, { labels }: TrainingBatch): void {
    const logits = floatsOf(output)
    const classes = this.#names.length
    for (const [row, label] of integersOf(labels).entries()) {
      if (label === IGNORED) continue
      const prediction = indexOfLargest(logits.subarray(row * classes, (row + 1) * classes))
      this.#labels[label]++
      this.#predictions[prediction]++
      if (prediction === label) this.#right[label]++
    }
  }

  result(): Readonly<Record<string, number>> {
    const [labels, predictions, right] = [this.#labels, this.#predictions, this.#right]
    const count = sum(labels)
    const correct = sum(right)
    const f1 = right.map((hits, c) => divide(2 * hits, labels[c] + predictions[c]))
    const occurs = f1.filter((_, c) => labels[c] + predictions[c] > 0)
    const dot = (a: readonly number[], b: readonly number[]) => sum(a.map((value, i) => value * b[i]))
    const covariance = correct * count - dot(labels, predictions)
    const variance = (count ** 2 - dot(labels, labels)) * (count ** 2 - dot(predictions, predictions))
    return {
      accuracy: divide(correct, count),
      f1: divide(sum(occurs), occurs.length),
      matthews: divide(covariance, Math.sqrt(variance)),
      ...Object.fromEntries(this.#names.map((name, c) => [`f1:${name}`, f1[c]])),
    }
  }
}

/**
 * Several classes for each row; a class is predicted if its logit is above 0. `accuracy` is the share of rows whose classes are all right, `f1`
 * the mean over the classes.
 *
 * @see scikit-learn: `accuracy_score`, `f1_score(average='macro', zero_division=0)`
 */
export class MultiLabelMetric implements Metric {
  readonly #names: readonly string[]
  readonly #hits: number[]
  /** For each class, the number of labels and of predictions together. */
  readonly #totals: number[]
  #rows = 0
  #right = 0

  constructor(names: readonly string[]) {
    this.#names = names
    this.#hits = names.map(() => 0)
    this.#totals = names.map(() => 0)
  }

  add(output: Tensor, { labels }: TrainingBatch): void {
    const logits = floatsOf(output)
    const targets = floatsOf(labels)
    const classes = this.#names.length
    for (let start = 0; start < targets.length; start += classes) {
      let isRight = true
      for (let c = 0; c < classes; c++) {
        const label = targets[start + c]
        const prediction = logits[start + c] > 0 ? 1 : 0
        isRight &&= label === prediction
        this.#hits[c] += label * prediction
        this.#totals[c] += label + prediction
      }
      this.#rows++
      if (isRight) this.#right++
    }
  }

  result(): Readonly<Record<string, number>> {
    const f1 = this.#hits.map((hits, c) => divide(2 * hits, this.#totals[c]))
    return {
      accuracy: divide(this.#right, this.#rows),
      f1: divide(sum(f1), f1.length),
      ...Object.fromEntries(this.#names.map((name, c) => [`f1:${name}`, f1[c]])),
    }
  }
}

/** Numbers: `spearman`, the correlation of ranks. @see SciPy: `spearmanr` */
export class NumberMetric implements Metric {
  readonly #values: number[] = []
  readonly #targets: number[] = []

  add(output: Tensor, { labels }: TrainingBatch): void {
    for (const value of floatsOf(output)) this.#values.push(value)
    for (const target of floatsOf(labels)) this.#targets.push(target)
  }

  result(): Readonly<Record<string, number>> {
    return { spearman: spearman(this.#values, this.#targets) }
  }
}

/** Pairs of sentences: `spearman`, between the cosines of their embeddings and the scores. */
export class PairMetric implements Metric {
  readonly #mask: string | undefined
  readonly #cosines: number[] = []
  readonly #scores: number[] = []

  /** @param mask the input with 1 for tokens; undefined if the output has one embedding for each row */
  constructor(mask: string | undefined) {
    this.#mask = mask
  }

  add(output: Tensor, { feeds, labels }: TrainingBatch): void {
    const mask = this.#mask === undefined ? undefined : integersOf(feeds[this.#mask] as Tensor)
    const embeddings = embeddingsOf(output, mask)
    const pairs = embeddings.length / 2
    for (let i = 0; i < pairs; i++) this.#cosines.push(cosine(embeddings[i], embeddings[i + pairs]))
    for (const score of floatsOf(labels)) this.#scores.push(score)
  }

  result(): Readonly<Record<string, number>> {
    return { spearman: spearman(this.#cosines, this.#scores) }
  }
}

/** Language models: `perplexity`, the exponential of the mean loss of an evaluation. */
export class Perplexity implements Metric {
  result(loss: number): Readonly<Record<string, number>> {
    return { perplexity: Math.exp(loss) }
  }
}

/** The correlation of ranks; equal values share the mean of their ranks. NaN if all values are equal. */
export function spearman(a: readonly number[], b: readonly number[]): number {
  return correlation(ranksOf(a), ranksOf(b))
}

function ranksOf(values: readonly number[]): number[] {
  const order = Array.from(values.keys()).sort((a, b) => values[a] - values[b])
  const ranks = new Array<number>(values.length)
  for (let start = 0; start < order.length; ) {
    let end = start + 1
    while (end < order.length && values[order[end]] === values[order[start]]) end++
    for (let i = start; i < end; i++) ranks[order[i]] = (start + end - 1) / 2
    start = end
  }
  return ranks
}

function correlation(a: readonly number[], b: readonly number[]): number {
  const [meanA, meanB] = [sum(a) / a.length, sum(b) / b.length]
  let [covariance, varianceA, varianceB] = [0, 0, 0]
  for (const [i, value] of a.entries()) {
    covariance += (value - meanA) * (b[i] - meanB)
    varianceA += (value - meanA) ** 2
    varianceB += (b[i] - meanB) ** 2
  }
  return covariance / Math.sqrt(varianceA * varianceB)
}

/** The means over the tokens of each row, or the rows themselves. */
function embeddingsOf(output: Tensor, mask: readonly number[] | undefined): Float64Array[] {
  const { dims } = output
  const values = floatsOf(output)
  const width = dims[dims.length - 1]
  const tokens = mask === undefined ? 1 : dims[1]
  return Array.from({ length: dims[0] }, (_, row) => {
    const total = new Float64Array(width)
    for (let t = row * tokens; t < (row + 1) * tokens; t++)
      if (mask === undefined || mask[t] === 1)
        for (let d = 0; d < width; d++) total[d] += values[t * width + d]
    return total
  })
}

function cosine(a: Float64Array, b: Float64Array): number {
  let [dot, squareA, squareB] = [0, 0, 0]
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i]
    squareA += a[i] ** 2
    squareB += b[i] ** 2
  }
  return dot / Math.sqrt(squareA * squareB)
}

function integersOf(tensor: Tensor | undefined): number[] {
  return Array.from((tensor?.data ?? []) as BigInt64Array, Number)
}

/** The numbers of a tensor; float16 as the 16 bits of each number, if the runtime has no type for it. */
function floatsOf(tensor: Tensor | undefined): Float32Array {
  const data = tensor?.data
  if (!(data instanceof Uint16Array)) return Float32Array.from((data ?? []) as Float32Array)
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  return Float32Array.from(decodeFloats({ dtype: 'F16', bytes }))
}

/** The first of the largest values, as NumPy's `argmax`. */
function indexOfLargest(values: Float32Array): number {
  let largest = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[largest]) largest = i
  return largest
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

/** 0 / 0 is 0, as in scikit-learn. */
function divide(a: number, b: number): number {
  return b === 0 ? 0 : a / b
}

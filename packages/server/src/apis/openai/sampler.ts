/**
 * Chooses the tokens of one request, with a random generator of its own: the sampler of transformers.js draws from one generator for
 * all calls, so requests would change each other's seeds. It is a logits processor that leaves one token possible, which greedy
 * decoding then takes.
 */
import { random } from '@huggingface/transformers'

export interface Sampling {
  /** 0: the most probable token, always. */
  readonly temperature: number
  /** Only the most probable tokens that together have this probability; 1: all. */
  readonly topP: number
  /** Only the k most probable tokens; 0: all. */
  readonly topK: number
  /** Undefined: another answer each time. */
  readonly seed: number | undefined
  /** Subtracted from the logit of a generated token, once for each time it was generated. */
  readonly frequencyPenalty: number
  /** Subtracted from the logit of a token that was generated at least once. */
  readonly presencePenalty: number
  /** Added to the logits of tokens. */
  readonly logitBias: ReadonlyMap<number, number>
}

/** The part of a tensor that a processor needs: `[1, vocabulary]`. */
interface Logits {
  readonly data: Float32Array
}

export type LogitsProcessor = <T extends Logits>(ids: readonly (readonly bigint[])[], logits: T) => T

/** Returns the processor of one generation; undefined if greedy decoding alone gives the answer. */
export function createSampler(sampling: Sampling, promptLength: number): LogitsProcessor | undefined {
  const { temperature, frequencyPenalty, presencePenalty, logitBias } = sampling
  const hasPenalty = frequencyPenalty !== 0 || presencePenalty !== 0
  if (temperature === 0 && !hasPenalty && logitBias.size === 0) return undefined
  // Like Python's `random.seed`, the generator takes the absolute value of a seed.
  const generator = new random.Random(sampling.seed === undefined ? undefined : Math.abs(sampling.seed))
  return (ids, logits) => {
    const { data } = logits
    for (const [token, bias] of logitBias)
      if (token < data.length) data[token] = (data[token] as number) + bias
    if (hasPenalty) subtractPenalties(data, (ids[0] ?? []).slice(promptLength), sampling)
    if (temperature > 0) {
      const token = draw(data, sampling, generator.random())
      data.fill(Number.NEGATIVE_INFINITY)
      data[token] = 0
    }
    return logits
  }
}

function subtractPenalties(
  logits: Float32Array,
  generated: readonly bigint[],
  { frequencyPenalty, presencePenalty }: Sampling,
): void {
  const counts = new Map<number, number>()
  for (const id of generated) counts.set(Number(id), (counts.get(Number(id)) ?? 0) + 1)
  for (const [token, count] of counts) {
    logits[token] = (logits[token] as number) - frequencyPenalty * count - presencePenalty
  }
}

/**
 * Draws a token: logits / temperature, then top-k, then top-p of what is left.
 *
 * @param uniform in [0, 1)
 */
export function draw(
  logits: Float32Array,
  { temperature, topK, topP }: Pick<Sampling, 'temperature' | 'topK' | 'topP'>,
  uniform: number,
): number {
  const least = topK > 0 && topK < logits.length ? kthLargest(logits, topK) : Number.NEGATIVE_INFINITY
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
  const weights = new Float64Array(logits.length)
  let total = 0
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i] as number
    if (logit < least) continue
    const weight = Math.exp((logit - most) / temperature)
    weights[i] = weight
    total += weight
  }
  if (!(total > 0)) throw new Error('the model gives scores that are not finite')
  if (topP < 1) total = keepNucleus(weights, topP, total)
  let left = uniform * total
  let last = 0
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i] as number
    if (weight === 0) continue
    last = i
    left -= weight
    if (left < 0) return i
  }
  // Rounding can leave a rest of the last token.
  return last
}

/** Sets the weights outside of the smallest set with a share of `topP` to zero. Returns the sum of the set. */
function keepNucleus(weights: Float64Array, topP: number, total: number): number {
  // All tokens below this together have less than 1 - topP, so none of them is in the set.
  const negligible = ((1 - topP) * total) / weights.length
  const candidates: number[] = []
  for (let i = 0; i < weights.length; i++) {
    if ((weights[i] as number) >= negligible) candidates.push(i)
  }
  candidates.sort((a, b) => (weights[b] as number) - (weights[a] as number) || a - b)
  const kept = new Map<number, number>()
  let sum = 0
  for (const i of candidates) {
    const weight = weights[i] as number
    kept.set(i, weight)
    sum += weight
    if (sum >= topP * total) break
  }
  weights.fill(0)
  for (const [i, weight] of kept) weights[i] = weight
  return sum
}

/** The k-th largest value, by Hoare's selection. */
function kthLargest(values: Float32Array, k: number): number {
  const a = values.slice()
  let low = 0
  let high = a.length - 1
  while (low < high) {
    const pivot = a[(low + high) >> 1] as number
    let i = low
    let j = high
    while (i <= j) {
      while ((a[i] as number) > pivot) i++
      while ((a[j] as number) < pivot) j--
      if (i > j) break
      const value = a[i] as number
      a[i++] = a[j] as number
      a[j--] = value
    }
    if (k - 1 <= j) high = j
    else if (k - 1 >= i) low = i
    else break
  }
  return a[k - 1] as number
}

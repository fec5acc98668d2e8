/** The sampler: distributions against their definition, seeds, penalties. */
import { random } from '@huggingface/transformers'
import { describe, expect, test } from 'vitest'
import { createSampler, draw, type Sampling } from './sampler.js'

const PLAIN: Sampling = {
  temperature: 1,
  topP: 1,
  topK: 0,
  seed: undefined,
  frequencyPenalty: 0,
  presencePenalty: 0,
  logitBias: new Map(),
}
const LOGITS = Float32Array.from([1, 3, -2, 0.5, 2.9, 1])

/** The share of each token among equally spaced draws. */
function shares(settings: Partial<Sampling>, logits = LOGITS, draws = 20_000): number[] {
  const counts = new Array(logits.length).fill(0)
  for (let i = 0; i < draws; i++) counts[draw(logits, { ...PLAIN, ...settings }, (i + 0.5) / draws)]++
  return counts.map((count) => count / draws)
}

/** The definition: softmax of logits / temperature over some tokens. */
function expected(tokens: readonly number[], temperature = 1, logits = LOGITS): number[] {
  const weights = Array.from(logits, (logit, i) => (tokens.includes(i) ? Math.exp(logit / temperature) : 0))
  const total = weights.reduce((a, b) => a + b)
  return weights.map((weight) => weight / total)
}

function expectClose(actual: readonly number[], wanted: readonly number[]) {
  for (const [i, share] of wanted.entries()) expect(actual[i]).toBeCloseTo(share, 3)
}

describe('draw', () => {
  const all = [0, 1, 2, 3, 4, 5]
  test('follows the softmax at each temperature', () => {
    for (const temperature of [0.3, 1, 2]) expectClose(shares({ temperature }), expected(all, temperature))
  })
  test('top-k keeps the k largest, and ties of the last one', () => {
    expectClose(shares({ topK: 1 }), expected([1]))
    expectClose(shares({ topK: 2 }), expected([1, 4]))
    expectClose(shares({ topK: 3 }), expected([0, 1, 4, 5]))
    expectClose(shares({ topK: 100 }), expected(all))
  })
  test('top-p keeps the smallest set with that probability, after top-k and temperature', () => {
    const [, first = 0, , , second = 0] = expected(all)
    expectClose(shares({ topP: first - 0.01 }), expected([1]))
    expectClose(shares({ topP: first + 0.01 }), expected([1, 4]))
    expectClose(shares({ topP: first + second + 0.01 }), expected([0, 1, 4]))
    expectClose(shares({ topK: 2, topP: 0.6, temperature: 0.5 }), expected([1, 4], 0.5))
  })
  test('top-k and top-p agree with sorting for thousands of tokens', () => {
    const generator = new random.Random(5)
    const logits = Float32Array.from({ length: 5000 }, () => 4 * generator.gauss())
    const order = Array.from(logits.keys()).sort((a, b) => (logits[b] as number) - (logits[a] as number))
    const possible = (settings: Partial<Sampling>) =>
      new Set(
        Array.from({ length: 5000 }, (_, i) => draw(logits, { ...PLAIN, ...settings }, (i + 0.5) / 5000)),
      )
    expect(possible({ topK: 7, temperature: 2 })).toEqual(new Set(order.slice(0, 7)))
    const probabilities = expected(order, 1, logits)
    let count = 0
    for (let sum = 0; sum < 0.5; count++) sum += probabilities[order[count] as number] as number
    expect(possible({ topP: 0.5 })).toEqual(new Set(order.slice(0, count)))
  })
  test('fails if the model gives NaN', () => {
    expect(() => draw(Float32Array.from([1, Number.NaN]), PLAIN, 0.5)).toThrow('not finite')
  })
})

describe('createSampler', () => {
  const choose = (sampling: Partial<Sampling>, count: number, ids: bigint[] = []) => {
    const sampler = createSampler({ ...PLAIN, ...sampling }, 0)
    return Array.from({ length: count }, () => {
      const data = LOGITS.slice()
      sampler?.([ids], { data })
      return data.indexOf(Math.max(...data))
    })
  }
  test('needs nothing for plain greedy decoding', () => {
    expect(createSampler({ ...PLAIN, temperature: 0 }, 0)).toBeUndefined()
  })
  test('gives the same tokens for a seed, and others without one', () => {
    expect(choose({ seed: 3 }, 50)).toEqual(choose({ seed: 3 }, 50))
    expect(choose({ seed: 3 }, 50)).not.toEqual(choose({ seed: 4 }, 50))
    expect(choose({}, 50)).not.toEqual(choose({}, 50))
  })
  test('does not touch the generator of transformers.js', () => {
    random.seed(9)
    const first = random.random()
    random.seed(9)
    choose({ seed: 1 }, 5)
    expect(random.random()).toBe(first)
  })
  test('penalties count the generated tokens only', () => {
    const sampler = createSampler(
      { ...PLAIN, temperature: 0, frequencyPenalty: 0.5, presencePenalty: 0.25 },
      2,
    )
    const data = LOGITS.slice()
    sampler?.([[1n, 1n, 4n, 4n, 0n]], { data })
    expect(Array.from(data)).toEqual([0.25, 3, -2, 0.5, Math.fround(Math.fround(2.9) - 1 - 0.25), 1])
  })
  test('a bias makes a token certain or impossible', () => {
    expect(choose({ logitBias: new Map([[2, 100]]) }, 3)).toEqual([2, 2, 2])
    expect(choose({ temperature: 0, logitBias: new Map([[1, -100]]) }, 1)).toEqual([4])
  })
})

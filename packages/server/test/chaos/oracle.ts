/** `Oracle`: the answers of each adapter alone: `attach` and `setAdapter` on a pipeline of its own, one text after another. */
import { loadAdapter } from '@fourierft/core'
import { attach } from '@fourierft/transformers'
import { pipeline, random as randomOf, Tensor } from '@huggingface/transformers'
import { draw } from '../../src/apis/openai/sampler.js'
import type { Pipe } from '../../src/engine.js'
import { type Answer, NEW_TOKENS, type Question, SAMPLING_SEED, TEXTS, type Tokens } from './requests.js'
import { type Content, contentId, filesOf, kindOf, MODEL_NAMES, MODELS, type ModelName } from './versions.js'

/** Roundings of float32 by which a number may differ, relative to the largest: sums of another batch have another order. */
export const TOLERANCE = 1000 * 2 ** -24

/** An answer alone, and how far the server's may be from it. */
export interface Expected {
  readonly answer: Answer
  /** Of numbers: the largest difference. */
  readonly bound: number
  /** Of texts: a token was chosen by less than the tolerance, so another one is right too. */
  readonly isTie: boolean
}

type Good = Content & { readonly type: 'good' }

/** What has to be computed. Null is the base model. */
export interface Need {
  readonly model: ModelName
  readonly content: Good | null
  readonly question: Question
  readonly text: number
}

export const needId = ({ model, content, question, text }: Need) =>
  `${model} ${content ? contentId(content) : 'base'} ${question} ${text}`

const open = async (model: ModelName) =>
  (await pipeline(MODELS[model].task as 'text-classification', model, { dtype: 'fp32' })) as unknown as Pipe

/** The tokens of the texts, for requests that send tensors. */
export async function readTokens(): Promise<Tokens> {
  const entries = MODEL_NAMES.map(async (model) => {
    const pipe = await open(model)
    const tokens = TEXTS.map((text) =>
      Array.from(pipe.tokenizer(text).input_ids.data as BigInt64Array, Number),
    )
    await pipe.model.dispose()
    return [model, tokens] as const
  })
  return Object.fromEntries(await Promise.all(entries)) as unknown as Tokens
}

/** Computes all answers, with a pipeline for each kind of adapters. */
export async function answersAlone(needs: readonly Need[]): Promise<ReadonlyMap<string, Expected>> {
  const answers = new Map<string, Expected>()
  const byKind = new Map<string, Map<string, Need[]>>()
  for (const need of needs) {
    const kind = need.content ? kindOf(need.content.version) : `${need.model} base`
    const byContent = byKind.get(kind) ?? new Map<string, Need[]>()
    byKind.set(kind, byContent)
    const content = need.content ? contentId(need.content) : 'base'
    byContent.set(content, [...(byContent.get(content) ?? []), need])
  }
  for (const byContent of byKind.values()) {
    const [[{ model }]] = [...byContent.values()] as [[Need]]
    const pipe = await open(model)
    const adapters = await attach(pipe as unknown as Parameters<typeof attach>[0], { native: false })
    for (const asked of byContent.values()) {
      const [{ content }] = asked as [Need]
      if (content) {
        await adapters.loadAdapter(await loadAdapter(filesOf(content)), { name: 'alone' })
        adapters.setAdapter('alone')
      }
      for (const need of asked) answers.set(needId(need), await answerAlone(pipe, need))
      if (content) adapters.deleteAdapter('alone')
    }
    await adapters.detach()
    await pipe.model.dispose()
  }
  return answers
}

const largest = (numbers: Iterable<number>) =>
  Array.from(numbers).reduce((most, x) => Math.max(most, Math.abs(x)), 0)

async function answerAlone(pipe: Pipe, { question, text: index }: Need): Promise<Expected> {
  const text = TEXTS[index] as string
  if (question === 'greedy' || question === 'seeded') return generateAlone(pipe, text, question === 'seeded')
  if (question === 'vector') {
    const { data } = (await pipe(text, { pooling: 'mean', normalize: true })) as { data: Float32Array }
    return { answer: Object.fromEntries(data.entries()), bound: TOLERANCE * largest(data), isTie: false }
  }
  const { logits } = (await pipe.model(pipe.tokenizer(text))) as { logits: { data: Float32Array } }
  // A score changes by at most half of what the logits change.
  const bound = TOLERANCE * largest(logits.data)
  if (question === 'logits') return { answer: Object.fromEntries(logits.data.entries()), bound, isTie: false }
  const labels = (await pipe(text, { top_k: 10 })) as { label: string; score: number }[]
  return { answer: Object.fromEntries(labels.map(({ label, score }) => [label, score])), bound, isTie: false }
}

async function generateAlone(pipe: Pipe, text: string, isSeeded: boolean): Promise<Expected> {
  const { tokenizer } = pipe
  const ids = tokenizer(text, { add_special_tokens: false }).input_ids as Tensor
  const generator = new randomOf.Random(SAMPLING_SEED)
  let isTie = false
  const choose = (_: unknown, logits: { data: Float32Array }) => {
    const { data } = logits
    const change = TOLERANCE * largest(data)
    if (isSeeded) {
      const uniform = generator.random()
      const at = (u: number) => draw(data, { temperature: 1, topK: 0, topP: 1 }, u)
      const token = at(uniform)
      // Each logit changes by at most `change`, so the sum of some probabilities by at most half of it.
      if (
        at(Math.max(0, uniform - change)) !== token ||
        at(Math.min(1 - 2 ** -53, uniform + change)) !== token
      )
        isTie = true
      data.fill(Number.NEGATIVE_INFINITY)
      data[token] = 0
    } else {
      const [best = 0, second = 0] = Array.from(data).sort((a, b) => b - a)
      if (best - second <= 2 * change) isTie = true
    }
    return logits
  }
  const output = (await pipe.model.generate({
    input_ids: ids,
    attention_mask: new Tensor('int64', new BigInt64Array(ids.data.length).fill(1n), ids.dims),
    max_new_tokens: NEW_TOKENS,
    do_sample: false,
    logits_processor: [choose],
  })) as Tensor
  const all = Array.from(output.data as BigInt64Array)
  const decode = (tokens: bigint[]): string => tokenizer.decode(tokens, { skip_special_tokens: true })
  const prompt = decode(all.slice(0, ids.data.length))
  return { answer: decode(all).slice(prompt.length), bound: 0, isTie }
}

/** Whether an answer is the expected one. */
export function isSame(received: Answer, { answer, bound, isTie }: Expected): boolean {
  if (typeof answer === 'string' || typeof received === 'string')
    return isTie ? typeof received === 'string' : received === answer
  const names = Object.keys(answer)
  return (
    names.length === Object.keys(received).length &&
    names.every((name) => Math.abs((received[name] ?? Number.NaN) - (answer[name] as number)) <= bound)
  )
}

/** Requests at random: right ones, each with what its answer must be, and bad ones, each with the statuses that are promised. */
import type { Sending } from './client.js'
import { type AdapterFolder, CHANGING } from './folder.js'
import type { Random } from './random.js'
import { kindsOf, type ModelName } from './versions.js'

/** In every text of a request, and nowhere else: the server must never print it. */
export const SECRET = 'quokkasecret'

/** Texts of different lengths. */
export const TEXTS = [
  `the cat ${SECRET}`,
  `a small cat sat on the mat ${SECRET}`,
  SECRET,
  `the old dog and the small cat ${SECRET} sat`,
  `on the mat ${SECRET} the cat sat`,
] as const

export const NEW_TOKENS = 8
export const SAMPLING_SEED = 7

/** One answer: numbers by their names, or a text. */
export type Answer = Readonly<Record<string, number>> | string

/** What is asked of the model, so that the answer can be computed alone. */
export type Question = 'scores' | 'logits' | 'vector' | 'greedy' | 'seeded'

export interface RightRequest {
  readonly type: 'right'
  readonly sending: Sending
  /** Null is the base model. */
  readonly adapter: string | null
  readonly question: Question
  /** Indices of the texts. */
  readonly texts: readonly number[]
  /** The answers in a body, one for each text. @throws for a body of another form */
  readonly read: (body: string) => readonly Answer[]
  /** The request has a deadline that may be over before its answer. */
  readonly hasDeadline: boolean
}

export interface BadRequest {
  readonly type: 'bad'
  readonly what: string
  readonly sending: Sending
  readonly statuses: readonly number[]
  /** The server may close the connection before it has read all of the body. */
  readonly mayReset?: boolean
}

export type ChaosRequest = RightRequest | BadRequest

/** Tokens of the texts, by model: `[text][token]`. */
export type Tokens = Readonly<Record<ModelName, readonly (readonly number[])[]>>

const numbered = (numbers: readonly number[]): Answer => Object.fromEntries(numbers.entries())

/** @param kinds undefined, or mostly adapters of the first kinds are asked for */
export function rightRequest(
  { model, population }: AdapterFolder,
  tokens: Tokens,
  random: Random,
  kinds: number | undefined,
): RightRequest {
  const any = random.below(random.chance(0.5) ? CHANGING : population.count)
  const index =
    kinds === undefined || random.chance(0.3) ? any : any - (any % kindsOf(model, population)) + (any % kinds)
  const adapter = random.chance(0.03) ? null : `customer-${index}`
  const name = adapter === null ? model : random.chance(0.5) ? adapter : `${model}:${adapter}`
  const one = random.below(TEXTS.length)
  const isList = random.chance(0.3)
  const texts = isList ? Array.from({ length: 1 + random.below(3) }, () => random.below(TEXTS.length)) : [one]
  const inputs = texts.map((index) => TEXTS[index])
  const hasDeadline = random.chance(0.03)
  const timeout = hasDeadline ? { parameters: { timeout: 1 + random.below(20_000) } } : {}
  const post = (path: string, body: object): Sending => ({ method: 'POST', path, body: JSON.stringify(body) })
  const infer = `/v2/models/${name}/infer`
  const base = { type: 'right', adapter, hasDeadline: false } as const
  // Requests with a deadline go to the only API that has them.
  const form = hasDeadline ? 1 : random.below(3)
  switch (model) {
    case 'bert': {
      if (form === 0)
        return {
          ...base,
          question: 'scores',
          texts,
          sending: post('/v1/tasks/text-classification', {
            model: name,
            inputs: isList ? inputs : inputs[0],
            parameters: { top_k: 10 },
          }),
          read: (body) => {
            const json = JSON.parse(body)
            return (isList ? json : [json]).map((labels: { label: string; score: number }[]) =>
              Object.fromEntries(labels.map(({ label, score }) => [label, score])),
            )
          },
        }
      if (form === 1) {
        const ids = tokens.bert[one] as readonly number[]
        const shape = [1, ids.length]
        const input = (name: string, data: readonly number[]) => ({ name, datatype: 'INT64', shape, data })
        return {
          ...base,
          hasDeadline,
          question: 'logits',
          texts: [one],
          sending: post(infer, {
            inputs: [
              input('input_ids', ids),
              input(
                'attention_mask',
                ids.map(() => 1),
              ),
              input(
                'token_type_ids',
                ids.map(() => 0),
              ),
            ],
            ...timeout,
          }),
          read: (body) => [numbered(JSON.parse(body).outputs[0].data)],
        }
      }
      return {
        ...base,
        question: 'scores',
        texts,
        sending: post(infer, {
          inputs: [{ name: 'text', datatype: 'BYTES', shape: [texts.length], data: inputs }],
          parameters: { top_k: 10 },
        }),
        read: (body) => {
          const outputs = JSON.parse(body).outputs as { name: string; data: never[] }[]
          const dataOf = (name: string) => outputs.find((output) => output.name === name)?.data as never[]
          const [labels, scores] = [dataOf('label') as string[], dataOf('score') as number[]]
          const classes = labels.length / texts.length
          return texts.map((_, i) =>
            Object.fromEntries(
              labels
                .slice(i * classes, (i + 1) * classes)
                .map((label, j) => [label, scores[i * classes + j]]),
            ),
          ) as Answer[]
        },
      }
    }
    case 'roberta': {
      if (form === 1)
        return {
          ...base,
          hasDeadline,
          question: 'vector',
          texts,
          sending: post(infer, {
            inputs: [{ name: 'text', datatype: 'BYTES', shape: [texts.length], data: inputs }],
            ...timeout,
          }),
          read: (body) => {
            const { data } = JSON.parse(body).outputs[0] as { data: number[] }
            const width = data.length / texts.length
            return texts.map((_, i) => numbered(data.slice(i * width, (i + 1) * width)))
          },
        }
      const isBase64 = form === 0
      return {
        ...base,
        question: 'vector',
        texts,
        sending: post('/v1/embeddings', {
          model: name,
          input: isList ? inputs : inputs[0],
          ...(isBase64 && { encoding_format: 'base64' }),
        }),
        read: (body) =>
          JSON.parse(body).data.map(({ embedding }: { embedding: string | number[] }) => {
            if (typeof embedding !== 'string') return numbered(embedding)
            const bytes = Buffer.from(embedding, 'base64')
            return numbered(Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i)))
          }),
      }
    }
    case 'gpt2': {
      const isSeeded = random.chance(0.3)
      const isStream = form === 0
      if (hasDeadline)
        return {
          ...base,
          hasDeadline,
          question: 'greedy',
          texts: [one],
          sending: post(infer, {
            inputs: [{ name: 'text', datatype: 'BYTES', shape: [1], data: [TEXTS[one]] }],
            parameters: { ...timeout.parameters, max_new_tokens: NEW_TOKENS, temperature: 0 },
          }),
          read: (body) => JSON.parse(body).outputs[0].data,
        }
      return {
        ...base,
        question: isSeeded ? 'seeded' : 'greedy',
        texts: isStream ? [one] : texts,
        sending: post('/v1/completions', {
          model: name,
          prompt: isStream ? TEXTS[one] : inputs,
          max_tokens: NEW_TOKENS,
          ...(isSeeded ? { temperature: 1, seed: SAMPLING_SEED } : { temperature: 0 }),
          ...(isStream && { stream: true }),
        }),
        read: isStream
          ? readStream
          : (body) => JSON.parse(body).choices.map(({ text }: { text: string }) => text),
      }
    }
  }
}

/** The text of a stream. @throws for a stream that reports an error, or does not end with `[DONE]` */
function readStream(body: string): readonly string[] {
  const events = body.split('\n\n').filter((event) => event !== '')
  if (events.pop() !== 'data: [DONE]') throw new Error('the stream has no end')
  const chunks = events.map((event) => JSON.parse(event.replace(/^data: /, '')))
  const failed = chunks.find(({ error }) => error)
  if (failed) throw new Error(`the stream ends with an error: ${failed.error.message}`)
  if (!chunks.some(({ choices }) => choices[0].finish_reason))
    throw new Error('the stream has no finish_reason')
  return [chunks.map(({ choices }) => choices[0].text).join('')]
}

const deep = '['.repeat(50_000)
const huge = JSON.stringify({ model: 'bert', inputs: SECRET, filler: 'x'.repeat(5 * 2 ** 20) })

export function badRequest(model: ModelName, random: Random): BadRequest {
  const path = {
    bert: '/v1/tasks/text-classification',
    roberta: '/v1/embeddings',
    gpt2: '/v1/completions',
  }[model]
  const field = { bert: 'inputs', roberta: 'input', gpt2: 'prompt' }[model]
  const name = `customer-${random.below(CHANGING)}`
  const post = (path: string, body: unknown): Sending => ({
    method: 'POST',
    path,
    body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
  })
  const bad = (what: string, statuses: readonly number[], sending: Sending): BadRequest => ({
    type: 'bad',
    what,
    statuses,
    sending,
  })
  const unknown = random.pick([
    'nobody',
    `../../${SECRET}`,
    `..%2f..%2f${SECRET}`,
    `/etc/${SECRET}`,
    `C:\\${SECRET}`,
    `customer-1/../${SECRET}`,
    `.${SECRET}`,
    `customer-1\u0000${SECRET}`,
    `${SECRET} ${'x'.repeat(1000)}`,
    '',
    '__proto__',
    'constructor',
  ])
  const ids = (data: readonly unknown[]) => ({
    inputs: ['input_ids', 'attention_mask', ...(model === 'bert' ? ['token_type_ids'] : [])].map((name) => ({
      name,
      datatype: 'INT64',
      shape: [1, data.length],
      data: name === 'input_ids' ? data : data.map(() => (name === 'attention_mask' ? 1 : 0)),
    })),
  })
  const infer = `/v2/models/${name}/infer`
  return random.pick<() => BadRequest>([
    () => bad('no JSON', [400], post(path, `{"model": "${name}", "${field}": "${SECRET}`)),
    () => bad('no body', [400], post(path, '')),
    () => bad('no UTF-8', [400], post(path, new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]))),
    () => bad('nested lists', [400], post(path, deep)),
    () => bad('nested lists in /v2', [400], post(infer, deep)),
    () => bad('a list as the body', [400], post(path, [SECRET])),
    () => bad('an unknown adapter', [404], post(path, { model: unknown, [field]: SECRET })),
    () =>
      bad('an unknown adapter in a path', [404], {
        method: 'GET',
        path: `/v2/models/${encodeURIComponent(unknown)}/ready`,
      }),
    () => bad('a path upwards', [404], { method: 'GET', path: `/v2/models/../../../../etc/${SECRET}` }),
    () =>
      bad(
        'a wrong type',
        [400],
        post(path, { model: name, [field]: random.pick([null, 5, {}, true, [[SECRET]], [null]]) }),
      ),
    () => bad('no model', [400], post(path, { [field]: SECRET })),
    () => bad('a model of a wrong type', [400], post(path, { model: { a: SECRET }, [field]: SECRET })),
    () => ({ ...bad('a huge body', [413], post(path, huge)), mayReset: true }),
    () => ({
      ...bad('a huge body in chunks', [413], { ...post(path, huge), isChunked: true }),
      mayReset: true,
    }),
    () => bad('a token that does not exist', [400], post(infer, ids([1, 160, 2]))),
    () => bad('a negative token', [400], post(infer, ids([1, -1, 2]))),
    () => bad('a token of a wrong type', [400], post(infer, ids([1, SECRET, 2]))),
    () => bad('more tokens than positions', [400], post(infer, ids(new Array(500).fill(1)))),
    () =>
      bad(
        'a shape of 2^60 elements',
        [400],
        post(infer, {
          inputs: [{ name: 'text', datatype: 'BYTES', shape: [2 ** 30, 2 ** 30], data: [SECRET] }],
        }),
      ),
    () =>
      bad(
        'a task that the model does not have',
        [400],
        post('/v1/tasks/translation', { model: name, inputs: SECRET }),
      ),
    () => bad('an unknown route', [404], post(`/v3/${SECRET}`, {})),
    () => bad('a wrong method', [404, 405], { method: 'GET', path }),
  ])()
}

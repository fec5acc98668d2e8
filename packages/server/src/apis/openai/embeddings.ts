/** `POST /v1/embeddings`: a vector for each text. */
import { Buffer } from 'node:buffer'
import { mean_pooling, Tensor } from '@huggingface/transformers'
import * as v from 'valibot'
import type { Engine, Pipe } from '../../engine.js'
import { ServerError } from '../../errors.js'
import { check, integer, invalid, list, oneOf, optional, text } from '../check.js'
import { type ApiContext, adapterOf, type RequestContext, readJson } from '../context.js'
import { mapLimited } from '../map-limited.js'
import { checkCharacters, checkLength } from '../prompt-length.js'
import { takeTurn } from '../take-turn.js'
import { usageOf } from './generation-fields.js'
import { checkTokenIds } from './token-ids.js'

/** How the vectors of the tokens become one: their mean, the first one, or the last one. */
export type Pooling = 'mean' | 'cls' | 'last_token'

export interface EmbeddingOptions {
  /** Default: `mean`. */
  readonly pooling?: Pooling
  /** Whether vectors get the length 1. Default: true. */
  readonly normalize?: boolean
}

/** OpenAI's limit. */
const MOST_INPUTS = 2048
/** Inputs of one request that are in the model's queue at a time. */
const AT_ONCE = 32

const tokenIds = list(integer(0, 2 ** 31 - 1), 1, 1_000_000)
const SCHEMA = v.object(
  {
    model: text,
    input: v.union(
      [text, list(text, 1, MOST_INPUTS), tokenIds, list(tokenIds, 1, MOST_INPUTS)],
      `expected a text, a list of up to ${MOST_INPUTS} texts, token ids, or a list of up to ${MOST_INPUTS} lists of token ids`,
    ),
    encoding_format: optional(oneOf(['float', 'base64'])),
    dimensions: optional(integer(1, 1_000_000)),
  },
  'expected a JSON object',
)

export async function embeddings(
  c: RequestContext,
  engine: Engine,
  { maxBodyBytes, embedding }: ApiContext,
): Promise<Response> {
  c.set('api', 'embeddings')
  const fields = check(SCHEMA, await readJson(c, maxBodyBytes))
  const adapter = adapterOf(c, engine, fields.model)
  if (engine.task !== 'feature-extraction') {
    throw new ServerError(
      'unsupported_task',
      `'${engine.model}' does not make embeddings; its task is '${engine.task}'`,
      { param: 'model' },
    )
  }
  const given = inputsOf(fields.input)
  const signal = c.get('signal')
  const texts = given.filter((input) => typeof input === 'string')
  checkCharacters(
    engine.pipe,
    texts.map(({ length }) => length),
    'input',
  )
  const inputs: { readonly ids: readonly number[]; readonly index: number }[] = []
  for (const [index, input] of given.entries()) {
    if (typeof input === 'string') await takeTurn(input.length, signal)
    const ids = typeof input === 'string' ? tokensOfText(engine.pipe, input) : input
    if (ids.length === 0) throw invalid('input', `the input ${index} has no tokens`)
    if (typeof input !== 'string') checkTokenIds(engine.pipe, input, 'input')
    checkLength(engine.pipe, ids.length, 'input')
    inputs.push({ ids, index })
  }
  // Neighbours of one length share a batch without padding. Each input is a run of its own, so no input changes another one's bits.
  const byLength = inputs.toSorted((a, b) => a.ids.length - b.ids.length)
  const vectors = new Array<Float32Array>(inputs.length)
  await engine.call(
    adapter,
    (pipe) =>
      mapLimited(
        byLength,
        AT_ONCE,
        async ({ ids, index }) => {
          const vector = await embed(pipe, ids, embedding)
          vectors[index] = fields.dimensions == null ? vector : shorten(vector, fields.dimensions)
        },
        signal,
      ),
    { signal },
  )
  const isText = (fields.encoding_format ?? 'float') === 'float'
  const tokens = inputs.reduce((sum, { ids }) => sum + ids.length, 0)
  const { prompt_tokens, total_tokens } = usageOf(tokens, 0)
  return c.json({
    object: 'list',
    data: vectors.map((vector, index) => ({
      object: 'embedding',
      index,
      embedding: isText ? Array.from(vector) : base64(vector),
    })),
    model: fields.model,
    usage: { prompt_tokens, total_tokens },
  })
}

type Input = string | readonly number[]
function inputsOf(input: v.InferOutput<typeof SCHEMA>['input']): readonly Input[] {
  if (typeof input === 'string') return [input]
  return typeof input[0] === 'number' ? [input as number[]] : (input as Input[])
}

function tokensOfText({ tokenizer }: Pipe, input: string): number[] {
  const { input_ids } = tokenizer(input, { return_tensor: false, padding: false, truncation: false })
  return Array.from(input_ids as Iterable<number>, Number)
}

/** The same steps as the pipeline `feature-extraction` of transformers.js, for tokens. */
async function embed(
  pipe: Pipe,
  ids: readonly number[],
  { pooling = 'mean', normalize = true }: EmbeddingOptions,
): Promise<Float32Array> {
  const dims = [1, ids.length]
  const input_ids = new Tensor('int64', BigInt64Array.from(ids, BigInt), dims)
  const attention_mask = new Tensor('int64', new BigInt64Array(ids.length).fill(1n), dims)
  const outputs = await pipe.model({ input_ids, attention_mask })
  const tokens: Tensor = (outputs.last_hidden_state ?? outputs.logits ?? outputs.token_embeddings).to(
    'float32',
  )
  const pooled =
    pooling === 'mean' ? mean_pooling(tokens, attention_mask) : tokens.slice(null, pooling === 'cls' ? 0 : -1)
  const vector = normalize ? pooled.normalize(2, -1) : pooled
  return Float32Array.from(vector.data as Float32Array)
}

/** The first numbers of a vector, with the length 1 again: what models with nested embeddings are trained for. */
function shorten(vector: Float32Array, dimensions: number): Float32Array {
  if (dimensions > vector.length) {
    throw invalid(
      'dimensions',
      `expected at most ${vector.length}, the size of the model's embeddings, but received ${dimensions}`,
    )
  }
  const short = vector.slice(0, dimensions)
  const length = Math.hypot(...short)
  return length === 0 ? short : short.map((value) => value / length)
}

/** Little-endian float32, as OpenAI's clients read it. */
function base64(vector: Float32Array): string {
  const bytes = Buffer.alloc(4 * vector.length)
  for (const [i, value] of vector.entries()) bytes.writeFloatLE(value, 4 * i)
  return bytes.toString('base64')
}

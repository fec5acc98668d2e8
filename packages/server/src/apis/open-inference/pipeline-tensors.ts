/** The answers of the pipeline as tensors: a tensor of texts or images goes in, and embeddings, labels or texts come out. */
import * as v from 'valibot'
import type { CallOptions, Engine, Pipe } from '../../engine.js'
import { boolean, check, integer, invalid, oneOf } from '../check.js'
import { mapLimited } from '../map-limited.js'
import type { EmbeddingOptions } from '../openai/embeddings.js'
import { CONCURRENT_PROMPTS, generate, tokensOfPrompt } from '../openai/generate.js'
import { GENERATION_FIELDS, samplingOf, stopsOf } from '../openai/generation-fields.js'
import { checkCharacters, checkLength, contextLength } from '../prompt-length.js'
import { checkImage, type ImageFile, withImage } from '../read-image.js'
import { takeTurn } from '../take-turn.js'
import { decodeBytes, decodeText, type InputTensor } from './decode-inputs.js'
import type { OutputTensor } from './encode-response.js'
import type { TensorMetadata } from './model-tensors.js'
import { PROTOCOL_PARAMETERS } from './protocol-parameters.js'

const MAX_ROWS = 2048
const MAX_IMAGES = 32
/** Default number of generated tokens, that of OpenAI's completions. */
const DEFAULT_TOKENS = 16
const MAX_TEXT_BYTES = 2 ** 17
const MAX_IMAGE_BYTES = 2 ** 25
/** Rows of one request that wait for the model at the same time. */
const CONCURRENT_ROWS = 32

type Row = string | ImageFile
type Options = Readonly<Record<string, unknown>>

/** A request to the pipeline whose parameters and rows have been checked. */
interface PipelineCall {
  readonly engine: Engine
  readonly adapter: string | null
  readonly rows: readonly Row[]
  readonly options: Options
  readonly signal: AbortSignal
}

/** How a task of transformers.js is expressed in tensors. */
export interface PipelineTask {
  /** Also the name of the input, of the shape [n]. */
  readonly input: 'text' | 'image'
  readonly outputs: readonly TensorMetadata[]
  /** The parameters of a request, all optional. */
  readonly parameters: v.ObjectEntries
  answer(call: PipelineCall): Promise<readonly OutputTensor[]>
}

/** Calls the pipeline for each row, so that long rows do not lengthen short ones, and rows share batches with other requests. */
function forEachRow<T>(
  { engine, adapter, rows, signal }: PipelineCall,
  work: (pipe: Pipe, row: unknown) => Promise<T>,
): Promise<T[]> {
  const call = async (pipe: Pipe, row: Row, signal: AbortSignal) => {
    if (typeof row !== 'string') return withImage(row, signal, (image) => work(pipe, image))
    await takeTurn(row.length, signal)
    return work(pipe, row)
  }
  return engine.call(
    adapter,
    (pipe) => mapLimited(rows, CONCURRENT_ROWS, (row, _, signal) => call(pipe, row, signal), signal),
    { signal },
  )
}

interface Embedding {
  readonly data: Float32Array
  readonly dims: readonly number[]
}

const embeddings = (defaults: EmbeddingOptions): PipelineTask => ({
  input: 'text',
  outputs: [{ name: 'embedding', datatype: 'FP32', shape: [-1, -1] }],
  parameters: {
    pooling: v.optional(oneOf(['mean', 'cls', 'last_token']), defaults.pooling ?? 'mean'),
    normalize: v.optional(boolean, defaults.normalize ?? true),
  },
  async answer(call) {
    const vectors = await forEachRow(
      call,
      (pipe, row) => pipe(row, { ...call.options }) as Promise<Embedding>,
    )
    const width = vectors[0]?.dims.at(-1) ?? 0
    const data = new Float32Array(vectors.length * width)
    for (const [i, { data: vector }] of vectors.entries()) data.set(vector, i * width)
    return [{ name: 'embedding', datatype: 'FP32', shape: [vectors.length, width], data }]
  },
})

interface Classes {
  /** From the most probable on. */
  readonly best: readonly { readonly label: string; readonly score: number }[]
  /** In the order of the model's labels. */
  readonly scores: readonly number[]
}

const classes = (input: 'text' | 'image'): PipelineTask => ({
  input,
  outputs: [
    { name: 'label', datatype: 'BYTES', shape: [-1] },
    { name: 'score', datatype: 'FP32', shape: [-1] },
    { name: 'scores', datatype: 'FP32', shape: [-1, -1] },
  ],
  parameters: { top_k: v.optional(integer(1, 2 ** 16), 1) },
  async answer(call) {
    const answers = await forEachRow(call, classify)
    const count = answers.length
    const best = answers.flatMap(({ best }) => best.slice(0, call.options.top_k as number))
    const scores = answers.flatMap(({ scores }) => scores)
    // [n], or [n, k] for the best k.
    const shape = best.length === count ? [count] : [count, best.length / count]
    return [
      { name: 'label', datatype: 'BYTES', shape, data: best.map(({ label }) => label) },
      { name: 'score', datatype: 'FP32', shape, data: Float32Array.from(best, ({ score }) => score) },
      {
        name: 'scores',
        datatype: 'FP32',
        shape: [count, scores.length / count],
        data: Float32Array.from(scores),
      },
    ]
  },
})

async function classify(pipe: Pipe, row: unknown): Promise<Classes> {
  // Null: all labels. For one text, the answer is a list of labels; for one image too.
  const best = (await pipe(row, { top_k: null })) as Classes['best']
  // A new head has labels of its own, so they come from the view.
  const labels: readonly string[] = Object.values(pipe.model.config.id2label)
  const scores = labels.map((label) => best.find((one) => one.label === label)?.score ?? 0)
  return { best, scores }
}

const strings = (name: string, data: readonly string[]): readonly OutputTensor[] => [
  { name, datatype: 'BYTES', shape: [data.length], data },
]

const tokens: PipelineTask = {
  input: 'text',
  outputs: [{ name: 'json', datatype: 'BYTES', shape: [-1] }],
  parameters: { aggregation_strategy: v.optional(oneOf(['none', 'simple']), 'none') },
  answer: async (call) =>
    strings(
      'json',
      await forEachRow(call, async (pipe, row) => JSON.stringify(await pipe(row, { ...call.options }))),
    ),
}

const { temperature, top_p, top_k, seed, stop, frequency_penalty, presence_penalty } = GENERATION_FIELDS
const generationParameters = {
  max_new_tokens: v.optional(integer(1, 1_000_000), DEFAULT_TOKENS),
  return_full_text: v.optional(boolean, false),
  temperature,
  top_p,
  top_k,
  seed,
  stop,
  frequency_penalty,
  presence_penalty,
}

const generation: PipelineTask = {
  input: 'text',
  outputs: [{ name: 'generated_text', datatype: 'BYTES', shape: [-1] }],
  parameters: generationParameters,
  async answer({ engine, adapter, rows, options, signal }) {
    const fields = options as v.InferOutput<v.ObjectSchema<typeof generationParameters, undefined>>
    const { max_new_tokens: maxTokens, return_full_text: withPrompt } = fields
    // As in transformers.js, the most probable tokens unless the model samples by itself.
    const samples = engine.pipe.model.generation_config?.do_sample === true
    const temperature = fields.temperature ?? (samples ? null : 0)
    const sampling = samplingOf({ ...fields, temperature, model: engine.model }, engine.pipe)
    const generateRow = async (pipe: Pipe, row: string, signal: AbortSignal) => {
      const prompt = await tokensOfPrompt(engine.pipe, { text: row, param: 'text' }, signal)
      if (prompt.length === 0) throw invalid('text', 'expected at least one token in each prompt')
      let text = withPrompt ? row : ''
      const onText = (more: string) => {
        text += more
      }
      const stop = stopsOf({ ...fields, model: engine.model })
      await generate(pipe, { prompt, sampling, maxTokens, stop, param: 'text' }, { signal, onText })
      return text
    }
    // One call, so that all rows are answered by the same version of the adapter.
    const texts = await engine.call(
      adapter,
      (pipe) =>
        mapLimited(
          rows as readonly string[],
          CONCURRENT_PROMPTS,
          (row, _, signal) => generateRow(pipe, row, signal),
          signal,
        ),
      { signal },
    )
    return strings('generated_text', texts)
  },
}

/** Returns how the engine's task is expressed in tensors; undefined if only the model's own tensors can be used. */
export function pipelineTask(
  { task, signature }: Engine,
  embedding: EmbeddingOptions,
): PipelineTask | undefined {
  const tasks: ReadonlyMap<string, PipelineTask> = new Map([
    ['feature-extraction', embeddings(embedding)],
    ['text-classification', classes('text')],
    ['image-classification', classes('image')],
    ['token-classification', tokens],
    ['text-generation', generation],
  ])
  const found = tasks.get(task)
  return signature?.inputs.some(({ name }) => name === found?.input) ? undefined : found
}

/** Answers a tensor of texts or images. @throws {ServerError} `invalid_value`; as `engine.call` */
export async function callPipeline(
  engine: Engine,
  { input: kind, parameters: entries, answer }: PipelineTask,
  adapter: string | null,
  input: InputTensor,
  parameters: Readonly<Record<string, unknown>>,
  { signal }: CallOptions,
): Promise<readonly OutputTensor[]> {
  const known = { ...entries, ...PROTOCOL_PARAMETERS }
  const schema = v.strictObject(known, `expected one of ${Object.keys(known).join(', ')}`)
  const {
    binary_data_output: _,
    timeout: __,
    ...options
  } = check(schema, parameters, 'parameters') as Options
  const { name, datatype, shape, count } = input
  if (datatype !== 'BYTES') {
    throw invalid(name, `expected BYTES, received ${datatype}; datatypes are not converted`)
  }
  if (shape.length !== 1) throw invalid(name, `expected the shape [n], received [${shape}]`)
  if (count < 1 || count > MAX_ROWS) {
    throw invalid(name, `expected 1 to ${MAX_ROWS} elements, received ${count}`)
  }
  if (kind === 'image' && count > MAX_IMAGES)
    throw invalid(name, `expected at most ${MAX_IMAGES} images, received ${count}`)
  const elements = decodeBytes(input, kind === 'text' ? MAX_TEXT_BYTES : MAX_IMAGE_BYTES)
  const rows =
    kind === 'text'
      ? await readTexts(engine.pipe, name, elements, signal)
      : elements.map((element) => checkImage(element, name))
  return answer({ engine, adapter, rows, options, signal })
}

/** The pipeline cuts a long text off, unless its tokenizer does not know the model's limit. Then the model would fail. */
async function readTexts(
  pipe: Pipe,
  name: string,
  elements: readonly (string | Uint8Array)[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const texts = elements.map((element) => decodeText(name, element))
  checkCharacters(
    pipe,
    texts.map(({ length }) => length),
    name,
  )
  const limit = contextLength(pipe)
  if (limit === undefined || pipe.tokenizer.model_max_length <= limit) return texts
  for (const text of texts) {
    await takeTurn(text.length, signal)
    checkLength(pipe, pipe.tokenizer.encode(text).length, name)
  }
  return texts
}

/** Sentence encoders: pairs of texts with a score of their similarity, or pairs that belong together. */
import { FourierFTError } from '@fourierft/core'
import { contrastive, cosineSimilarity } from '@fourierft/onnxruntime'
import { rejectSmoothing } from '../classification-loss.js'
import { eachRow } from '../each-row.js'
import { feedsOf, float32, padTokens, type TokenExample } from '../feeds.js'
import { PairMetric } from '../metrics.js'
import { outputNamed } from '../outputs.js'
import { checkRow, fieldOf, hasField, numberOf, rowError, textOf } from '../row-error.js'
import { RowTokenizer } from '../row-tokenizer.js'
import type { Example, Task, TaskContext, ValueMetadata } from '../task.js'

export interface FeatureExtractionRow {
  readonly text: string
  readonly text_pair: string
  /** The cosine that the embeddings should have, in [−1, 1]. Without scores, the texts of a row should be nearer than those of other rows. */
  readonly score?: number
}

interface Pair extends Example {
  readonly texts: readonly [TokenExample, TokenExample]
  readonly score: number | undefined
}

const MASK = 'attention_mask'

export const featureExtraction: Task<FeatureExtractionRow, Pair> = {
  pipelines: ['feature-extraction'],
  taskType: 'FEATURE_EXTRACTION',
  check(row, position) {
    const fields = checkRow(row, position, '{ text: "…", text_pair: "…", score: 0.8 }')
    const pair = { text: textOf(fields, 'text', position), text_pair: textOf(fields, 'text_pair', position) }
    if (!hasField(fields, 'score')) return pair
    const score = numberOf(fieldOf(fields, 'score', position), 'score', position)
    if (Math.abs(score) <= 1) return { ...pair, score }
    throw rowError(position, 'score', `expected a cosine in [-1, 1]; received ${score}`, { received: score })
  },
  encoder(context, rows) {
    rejectSmoothing(context)
    const text = new RowTokenizer(context)
    const hasScores = rows.length > 0 && rows[0].score !== undefined
    const { name: output, pooling } = embeddings(context)
    const loss = hasScores ? cosineSimilarity : contrastive
    return {
      loss: loss(output, { pooling, ...(pooling === 'mean' && { mask: MASK }) }),
      metric: () => (hasScores ? new PairMetric(pooling === 'mean' ? MASK : undefined) : undefined),
      encode: (rows, options) =>
        eachRow(
          rows,
          (row, position) => {
            checkScore(row, position, hasScores)
            const texts = [text.encode(row.text), text.encode(row.text_pair)] as const
            const [first, second] = texts
            return {
              texts,
              score: row.score,
              length: Math.max(first.length, second.length),
              cut: first.cut + second.cut,
            }
          },
          options,
        ),
      async collate(examples) {
        // All first texts, then all second ones, as the losses read them.
        const texts = [0, 1].flatMap((i) => examples.map(({ texts }) => texts[i]))
        const { ids, mask, types } = padTokens(texts, text.padId, text.side)
        const feeds = feedsOf(context, { input_ids: ids, [MASK]: mask, token_type_ids: types })
        const scores = examples.flatMap(({ score }) => score ?? [])
        return { feeds, labels: hasScores ? float32(scores, [examples.length]) : undefined }
      },
    }
  },
}

function checkScore({ score }: FeatureExtractionRow, position: number, hasScores: boolean): void {
  if ((score !== undefined) === hasScores) return
  throw rowError(
    position,
    'score',
    hasScores
      ? 'the row has no score, but other rows have one'
      : 'the row has a score, but other rows have none',
    { received: score },
  )
}

/**
 * The output with the embeddings: that of the pipeline, the mean of which over the tokens is the embedding, or one that is pooled already.
 *
 * @throws {FourierFTError} `UNSUPPORTED` if the model has no such output, or no attention mask for the mean
 */
function embeddings(context: TaskContext): { readonly name: string; readonly pooling: 'mean' | 'none' } {
  const { outputs, inputs, pipeline } = context
  const [only] = outputs
  const output =
    outputs.length === 1 && only.type === 'float32'
      ? only
      : outputNamed(context, ['last_hidden_state', 'token_embeddings', 'sentence_embedding'])
  const pooling = poolingOf(output)
  if (pooling === 'mean' && !inputs.some(({ name }) => name === MASK))
    throw new FourierFTError(
      'UNSUPPORTED',
      `${pipeline}: the model has no input ${MASK} for the mean over tokens`,
      { expected: MASK, received: inputs.map(({ name }) => name) },
    )
  return { name: output.name, pooling }
}

function poolingOf({ name, shape }: ValueMetadata): 'mean' | 'none' {
  return name === 'sentence_embedding' || shape.length === 2 ? 'none' : 'mean'
}

/** Words with a label each, such as names of persons and places. */
import { classificationLoss } from '../classification-loss.js'
import { eachRow } from '../each-row.js'
import { feedsOf, int64, padded, padTokens, type TokenExample } from '../feeds.js'
import { checkLabel, classesOf, type Label, LabelIds, labelsOf } from '../labels.js'
import { ClassMetric, IGNORED } from '../metrics.js'
import { outputNamed } from '../outputs.js'
import { checkRow, fieldOf, rowError, shown } from '../row-error.js'
import { RowTokenizer } from '../row-tokenizer.js'
import type { Task } from '../task.js'

export interface TokenClassificationRow {
  /** The words of a text. */
  readonly tokens: readonly string[]
  /** The label of each word. */
  readonly labels: readonly Label[]
}

interface LabelledTokens extends TokenExample {
  /** The class of the first token of each word; the other tokens do not count. */
  readonly targets: Int32Array
}

export const tokenClassification: Task<TokenClassificationRow, LabelledTokens> = {
  pipelines: ['token-classification', 'ner'],
  taskType: 'TOKEN_CLS',
  check(row, position) {
    const fields = checkRow(row, position, '{ tokens: ["Ada", "wrote"], labels: ["B-PER", "O"] }')
    const tokens = arrayOf(fieldOf(fields, 'tokens', position), 'tokens', position).map((token, i) => {
      if (typeof token === 'string') return token
      throw rowError(position, `tokens[${i}]`, `expected a word; received ${shown(token)}`, {
        received: token,
      })
    })
    const labels = arrayOf(fieldOf(fields, 'labels', position), 'labels', position).map((label, i) =>
      checkLabel(label, `labels[${i}]`, position),
    )
    if (tokens.length === labels.length) return { tokens, labels }
    throw rowError(position, 'labels', `there are ${labels.length} labels for ${tokens.length} tokens`, {
      expected: tokens.length,
      received: labels.length,
    })
  },
  labelsOf: (rows, known) =>
    labelsOf(
      rows.flatMap(({ labels }, position) => labels.map((label) => ({ position, label }))),
      // Each word has one class, also if the model could be read as a regression.
      { names: known.names.length > 1 ? known.names : [] },
    ),
  encoder(context) {
    const { names } = classesOf(context.labels)
    const text = new RowTokenizer(context)
    const output = outputNamed(context, ['logits']).name
    const ids = new LabelIds(names)
    const special = text.special()
    return {
      ...classificationLoss(output, context),
      metric: () => new ClassMetric(names),
      encode: (rows, options) =>
        eachRow(rows, (row, position) => encode(row, position, { text, ids, special }), options),
      async collate(examples) {
        const { ids, mask } = padTokens(examples, text.padId, text.side)
        const targets = examples.map(({ targets }) => targets)
        const { rows, columns, values } = padded(targets, IGNORED, text.side)
        return {
          feeds: feedsOf(context, { input_ids: ids, attention_mask: mask }),
          labels: int64(values, [rows, columns]),
        }
      },
    }
  },
}

function arrayOf(value: unknown, field: string, position: number): readonly unknown[] {
  if (Array.isArray(value) && value.length > 0) return value
  throw rowError(position, field, `expected an array with a value for each word; received ${shown(value)}`, {
    received: value,
    ...(typeof value === 'string' && { advice: 'use a file of JSON lines, because CSV has no arrays' }),
  })
}

interface Tools {
  readonly text: RowTokenizer
  readonly ids: LabelIds
  readonly special: ReturnType<RowTokenizer['special']>
}

/** Encodes word by word, with the space before a word that tokenizers need to find its tokens. */
function encode(
  { tokens, labels }: TokenClassificationRow,
  position: number,
  { text, ids, special: { before, after } }: Tools,
): LabelledTokens {
  const words: number[] = []
  const classes: number[] = []
  for (const [i, token] of tokens.entries()) {
    const pieces = text.idsOf(i === 0 ? token : ` ${token}`, { special: false })
    const id = ids.idOf(labels[i], `labels[${i}]`, position)
    for (const [k, piece] of pieces.entries()) {
      words.push(piece)
      classes.push(k === 0 ? id : IGNORED)
    }
  }
  const kept = Math.max(0, Math.min(words.length, text.maxLength - before.length - after.length))
  if (!classes.slice(0, kept).some((label) => label !== IGNORED))
    throw rowError(position, 'tokens', 'the tokenizer finds no tokens in the words', { received: tokens })
  const row = [...before, ...words.slice(0, kept), ...after]
  const ignored = (tokens: readonly number[]) => tokens.map(() => IGNORED)
  return {
    ids: Int32Array.from(row),
    targets: Int32Array.from([...ignored(before), ...classes.slice(0, kept), ...ignored(after)]),
    length: row.length,
    cut: words.length - kept,
  }
}

/** Texts, or pairs of texts, with one class, several classes or a number each. */
import { binaryCrossEntropy, type Metric, meanSquaredError } from '@fourierft/onnxruntime'
import { classificationLoss, rejectSmoothing } from '../classification-loss.js'
import { eachRow } from '../each-row.js'
import { feedsOf, float32, int64, padTokens, type TokenExample } from '../feeds.js'
import {
  checkLabels,
  classesOf,
  type Label,
  LabelIds,
  labelsOf,
  type ProblemType,
  targetOf,
} from '../labels.js'
import { ClassMetric, MultiLabelMetric, NumberMetric } from '../metrics.js'
import { outputNamed } from '../outputs.js'
import { checkRow, fieldOf, optionalTextOf, textOf } from '../row-error.js'
import { RowTokenizer } from '../row-tokenizer.js'
import type { Task, TaskContext, TaskEncoder } from '../task.js'

export interface TextClassificationRow {
  readonly text: string
  readonly text_pair?: string
  /** The name or the number of the class; an array for several classes; a number for a regression. */
  readonly label: Label | readonly Label[]
}

interface ClassifiedText extends TokenExample {
  /** What the loss compares the logits with: one number, or one for each class. */
  readonly target: readonly number[]
}

type Losses = Pick<TaskEncoder<unknown>, 'loss' | 'evaluationLoss'>

function lossOf(problemType: ProblemType, output: string, context: TaskContext): Losses {
  if (problemType === 'single_label_classification') return classificationLoss(output, context)
  rejectSmoothing(context)
  return {
    loss: problemType === 'regression' ? meanSquaredError(output) : binaryCrossEntropy(output),
  }
}

export const textClassification: Task<TextClassificationRow, ClassifiedText> = {
  pipelines: ['text-classification', 'sentiment-analysis'],
  taskType: 'SEQ_CLS',
  check(row, position) {
    const fields = checkRow(row, position, '{ text: "arrived broken", label: "complaint" }')
    const pair = optionalTextOf(fields, 'text_pair', position)
    return {
      text: textOf(fields, 'text', position),
      ...(pair !== undefined && { text_pair: pair }),
      label: checkLabels(fieldOf(fields, 'label', position), 'label', position),
    }
  },
  labelsOf: (rows, known) =>
    labelsOf(
      rows.map(({ label }, position) => ({ position, label })),
      known,
    ),
  encoder(context) {
    const { problemType, names } = classesOf(context.labels)
    const text = new RowTokenizer(context)
    const output = outputNamed(context, ['logits']).name
    const classes = { problemType, ids: new LabelIds(names), count: names.length }
    return {
      ...lossOf(problemType, output, context),
      metric: () => metricOf(problemType, names),
      encode: (rows, options) =>
        eachRow(
          rows,
          (row, position) => ({
            target: targetOf(row.label, classes, position),
            ...text.encode(row.text, { pair: row.text_pair }),
          }),
          options,
        ),
      async collate(examples) {
        const { ids, mask, types } = padTokens(examples, text.padId, text.side)
        return {
          feeds: feedsOf(context, { input_ids: ids, attention_mask: mask, token_type_ids: types }),
          labels: targetTensor(
            examples.map(({ target }) => target),
            problemType,
          ),
        }
      },
    }
  },
}

/** int64 `[rows]` for one class each, float32 `[rows, outputs]` otherwise. */
export function targetTensor(targets: readonly (readonly number[])[], problemType: ProblemType) {
  const values = targets.flat()
  return problemType === 'single_label_classification'
    ? int64(values, [targets.length])
    : float32(values, [targets.length, values.length / targets.length])
}

function metricOf(problemType: ProblemType, names: readonly string[]): Metric {
  if (problemType === 'regression') return new NumberMetric()
  return problemType === 'multi_label_classification' ? new MultiLabelMetric(names) : new ClassMetric(names)
}

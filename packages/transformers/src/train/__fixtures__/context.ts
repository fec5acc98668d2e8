/** Tasks with the exported models of the tests, and without sessions that can be trained. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import {
  AutoProcessor,
  AutoTokenizer,
  env,
  PretrainedConfig,
  type PreTrainedModel,
} from '@huggingface/transformers'
import type * as OrtModule from 'onnxruntime-common'
import type { Tensor } from 'onnxruntime-common'
import type { Labels } from '../labels.js'
import type { TaskContext, ValueMetadata } from '../task.js'

const FIXTURES = fileURLToPath(new URL('../../../test/__fixtures__/', import.meta.url))

/** The ONNX Runtime of transformers.js. */
export function ortOfTransformers(): typeof OrtModule {
  return createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'))('onnxruntime-node')
}

export const value = (
  name: string,
  shape: readonly (number | string)[],
  type: string = 'int64',
): ValueMetadata => ({ name, shape, type })

export const tokens = (...names: readonly string[]): ValueMetadata[] =>
  names.map((name) => value(name, ['batch_size', 'sequence_length']))

export const logits = (...shape: readonly (number | string)[]): ValueMetadata[] => [
  value('logits', ['batch_size', ...shape], 'float32'),
]

export const classes = (...names: readonly string[]): Labels => ({
  problemType: 'single_label_classification',
  names,
  isNew: false,
})

/** The context of a task with the tokenizer or the processor of one of the exported models. */
export async function contextOf(
  name: string,
  options: Pick<TaskContext, 'pipeline' | 'inputs' | 'outputs'> & Partial<TaskContext>,
): Promise<TaskContext> {
  env.localModelPath = FIXTURES
  env.allowRemoteModels = false
  const config = new PretrainedConfig(JSON.parse(readFileSync(`${FIXTURES}${name}/config.json`, 'utf8')))
  const isImage = options.pipeline === 'image-classification'
  return {
    model: { config } as PreTrainedModel,
    tokenizer: isImage ? undefined : await AutoTokenizer.from_pretrained(name),
    processor: isImage ? await AutoProcessor.from_pretrained(name, {}) : undefined,
    labels: undefined,
    maxLength: 64,
    ...options,
  }
}

/** A tensor as numbers. */
export function numbersOf(tensor: unknown): { type: string; dims: readonly number[]; data: number[] } {
  const { type, dims, data } = tensor as Tensor
  return { type, dims, data: Array.from(data as ArrayLike<number | bigint>, Number) }
}

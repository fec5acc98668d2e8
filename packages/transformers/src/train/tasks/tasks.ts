/** The tasks that can be trained. */
import { FourierFTError } from '@fourierft/core'
import type { Example, Task } from '../task.js'
import { featureExtraction } from './feature-extraction.js'
import { imageClassification } from './image-classification.js'
import { textClassification } from './text-classification.js'
import { textGeneration } from './text-generation.js'
import { text2textGeneration } from './text2text-generation.js'
import { tokenClassification } from './token-classification.js'

/** A task whose types of rows and examples are not known. Its encoder accepts the rows that its `check` returns. */
export type AnyTask = Task<unknown, Example>

const TASKS: readonly AnyTask[] = [
  textClassification,
  tokenClassification,
  featureExtraction,
  textGeneration,
  text2textGeneration,
  imageClassification,
]

/**
 * The task of a pipeline.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for a pipeline that cannot be trained
 */
export function taskOf(pipeline: string): AnyTask {
  const task = TASKS.find(({ pipelines }) => pipelines.includes(pipeline))
  if (task) return task
  const names = TASKS.flatMap(({ pipelines }) => pipelines)
  throw new FourierFTError('UNSUPPORTED', `${pipeline}: pipelines of this task cannot be trained`, {
    expected: names,
    received: pipeline,
    advice: `the tasks that can be trained are ${names.join(', ')}`,
  })
}

/** `missingHead`: the head that a model was exported without, although its task needs the output `logits`. Adapters have the weights of the head. */
import { type Applied, type Choice, FourierFTError, invalidState } from '@fourierft/core'
import { HEAD_TASKS, type Head, type HeadTask, headFor, headModules, LOGITS } from '@fourierft/onnx'
import type { ApplicableAdapter } from '@fourierft/onnxruntime/host'
import type { PreTrainedModel } from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-common'
import type { PipelineLike } from './library.js'

/**
 * Returns the task for which a model needs logits; undefined if it needs none.
 *
 * @param option the option `head` of `attach`
 * @throws {FourierFTError} `INVALID_OPTION` for an unknown task
 */
export function headTask(pipeline: PipelineLike | undefined, option: unknown): HeadTask | undefined {
  const taskOf = (name: unknown) => HEAD_TASKS.find((task) => task === name)
  const task = taskOf(option ?? pipeline?.task)
  if (task !== undefined || option === undefined) return task
  throw new FourierFTError(
    'INVALID_OPTION',
    `head: expected one of ${HEAD_TASKS.join(', ')}; received ${JSON.stringify(option) ?? typeof option}`,
    { option: 'head', expected: HEAD_TASKS, received: option },
  )
}

/**
 * Returns the head that must be added to a model for a task; undefined if the model has one.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for a model to which no head can be added
 */
export function missingHead(
  task: HeadTask,
  { config }: PreTrainedModel,
  sessions: ReadonlyMap<string, InferenceSession>,
): Head | undefined {
  const [session, ...others] = sessions.values()
  if (session === undefined || [session, ...others].some(({ outputNames }) => outputNames.includes(LOGITS)))
    return undefined
  if (others.length > 0)
    throw new FourierFTError(
      'UNSUPPORTED',
      `the model was exported without a head for ${task}, and it has several sessions: ${[...sessions.keys()].join(', ')}`,
      { advice: 'export the model with its head', received: [...sessions.keys()] },
    )
  // Versions of ONNX Runtime before 1.22 have no metadata.
  const dimsOf = (name: string) => {
    const output = session.outputMetadata?.find((candidate) => candidate.name === name)
    return output?.isTensor ? output.shape : undefined
  }
  const outputs = session.outputNames.map((name) => ({ name, dims: dimsOf(name) }))
  return headFor(task, { ...config }, outputs)
}

/** The metadata of the output that a head adds. */
export const LOGITS_METADATA = [
  { name: LOGITS, isTensor: true, type: 'float32', shape: ['batch', 'labels'] },
] satisfies readonly InferenceSession.ValueMetadata[]

/** Returns the modules of an added head whose weights none of these adapters has. */
export function modulesWithoutWeights(
  head: Head,
  applied: readonly (Applied<ApplicableAdapter> | null)[],
): string[] {
  const replaced = applied.flatMap((row) =>
    row ? Array.from(row.adapter.replacedModules.values(), ({ module }) => module) : [],
  )
  return headModules(head).filter((module) => !replaced.some((other) => isSame(module, other)))
}

/**
 * Checks that the adapters of a call have all weights of the added head. Without them the logits would be computed from placeholders.
 *
 * @throws {FourierFTError} `INVALID_STATE`
 */
export function checkHead(head: Head, choice: Choice<ApplicableAdapter>): void {
  for (const applied of 'added' in choice ? [choice.added] : choice.perRow.map((row) => [row])) {
    const missing = modulesWithoutWeights(head, applied)
    if (missing.length === 0) continue
    const names = applied.flatMap((row) => (row ? [`'${row.adapter.name}'`] : []))
    const reason =
      names.length === 0
        ? 'no adapter is active'
        : `adapter ${names.join(', ')} has no weights of ${missing.join(', ')}`
    throw invalidState(
      `the model was exported without a head, and ${reason}`,
      'load or train an adapter that has the head in modulesToSave, and activate it; or export the model with its head',
    )
  }
}

/** Whether the names of two modules differ at most in their root. */
function isSame(module: string, other: string): boolean {
  return module === other || module.endsWith(`.${other}`) || other.endsWith(`.${module}`)
}

/** `attach`: prepares a model of transformers.js, or the model of a pipeline, for adapters. */
import { FourierFTError } from '@fourierft/core'
import type { HeadTask } from '@fourierft/onnx'
import { type ModuleNames, readModuleNames } from '@fourierft/onnxruntime'
import type { PreTrainedModel, PretrainedModelOptions } from '@huggingface/transformers'
import { checkOptions } from './check-options.js'
import {
  chosenOptions,
  type ModelOrigin,
  modelOf,
  originOf,
  ortOf,
  type PipelineLike,
  sessionsOf,
} from './library.js'
import { headTask, missingHead } from './missing-head.js'
import { isMergedForGood, ModelAdapters } from './model-adapters.js'
import { ModelFiles } from './model-files.js'
import { ModelHost } from './model-host.js'
import { ModelPart, PartSession } from './model-part.js'

export interface AttachOptions {
  /**
   * The name or path from which the model was loaded. Needed if the model was loaded before this package was imported. The first `loadAdapter`
   * compares the files with the model, and throws `INVALID_OPTION` if they differ.
   */
  readonly model?: string
  /** The options with which the model was loaded (`revision`, `cache_dir`, …); `dtype` and `device` only if they differ between its sessions. */
  readonly modelOptions?: PretrainedModelOptions
  readonly moduleNames?: ModuleNames
  /**
   * The task for which a model that was exported without a head gets one, if the target is not a pipeline of that task. Pipelines get the head of
   * their task. The weights of the head are those of the active adapter (`modulesToSave`); calls without such an adapter throw `INVALID_STATE`.
   */
  readonly head?: HeadTask
  /** Whether to use the native kernel: `'auto'` (the default) if it is available, false never, true always. */
  readonly native?: 'auto' | boolean
}

/**
 * Prepares a model for adapters. Its outputs do not change until an adapter is loaded. No session is created, and browsers read no files.
 *
 * @param target a pipeline or a model
 * @throws {FourierFTError} `INVALID_OPTION` for another target, for invalid options, or if the option `model` is missing; `UNSUPPORTED` for a
 *   model without sessions, or a model without a head to which none can be added; `INVALID_STATE` if the model is attached already, or if `mergeAndUnload` has left adapters in its weights
 */
export async function attach(
  target: PipelineLike | PreTrainedModel,
  options: AttachOptions = {},
): Promise<ModelAdapters> {
  checkOptions(options, '{ native: false }')
  const { moduleNames = {}, native = 'auto' } = options
  readModuleNames(moduleNames)
  if (native !== 'auto' && typeof native !== 'boolean')
    throw new FourierFTError('INVALID_OPTION', `native: expected 'auto', true or false; received ${native}`, {
      option: 'native',
      received: native,
    })
  const model = modelOf(target)
  if (model === undefined)
    throw new FourierFTError(
      'INVALID_OPTION',
      'target: expected a pipeline or a model of @huggingface/transformers',
      { option: 'target', received: target },
    )
  checkAttachable(model)
  if (sessionsOf(model).size === 0)
    throw new FourierFTError(
      'UNSUPPORTED',
      'the model has no ONNX Runtime sessions, so adapters cannot be applied to it',
    )
  const pipeline = (target as unknown) === model ? undefined : (target as PipelineLike)
  const task = headTask(pipeline, options.head)
  const head = task && missingHead(task, model, sessionsOf(model))
  const files = new ModelFiles(model, originFor(model, options))
  const parts = await Promise.all(
    Array.from(sessionsOf(model), async ([name, session]) => {
      const ort = await ortOf(session)
      return new ModelPart({ name, session, ort, files, options: { moduleNames, native, head } })
    }),
  )
  // Another call may have attached the model during the await.
  checkAttachable(model)
  const host = new ModelHost(parts, files, moduleNames)
  return new ModelAdapters({ model, pipeline, parts, host })
}

function checkAttachable(model: PreTrainedModel): void {
  if (Object.values(model.sessions).some((session) => session instanceof PartSession))
    throw new FourierFTError('INVALID_STATE', 'the model is attached already', {
      advice: 'use the object that attach() returned, or call its detach() first',
    })
  // New sessions would be created from the model's files, which do not contain the merged adapters.
  if (isMergedForGood(model))
    throw new FourierFTError(
      'INVALID_STATE',
      'mergeAndUnload() has left adapters in the weights of this model',
      { advice: 'load the model again, and attach the new object' },
    )
}

function originFor(model: PreTrainedModel, { model: name, modelOptions = {} }: AttachOptions): ModelOrigin {
  const options = { ...chosenOptions(model), ...modelOptions }
  const origin = name === undefined ? originOf(model) : { name, options }
  if (origin) return origin
  throw new FourierFTError(
    'INVALID_OPTION',
    'model: the model was loaded before @fourierft/transformers was imported, or by another copy of @huggingface/transformers, so ' +
      'its files are unknown',
    {
      advice:
        'import this package first, or pass the name and options of the model: attach(…, { model, modelOptions })',
      option: 'model',
    },
  )
}

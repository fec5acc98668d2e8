/** `attach`: a model of transformers.js, or the model of a pipeline, ready for adapters. */
import { FourierFTError } from '@fourierft/core'
import { type ModuleNames, readModuleNames } from '@fourierft/onnxruntime'
import type { PreTrainedModel, PretrainedModelOptions } from '@huggingface/transformers'
import { checkOptions } from './check-options.js'
import {
  chosenOptions,
  modelOf,
  type Origin,
  originOf,
  ortOf,
  type PipelineLike,
  sessionsOf,
} from './library.js'
import { isMergedForGood, ModelAdapters } from './model-adapters.js'
import { ModelFiles } from './model-files.js'
import { ModelHost } from './model-host.js'
import { ModelPart, PartSession } from './model-part.js'

export interface AttachOptions {
  /**
   * What the model was loaded by (a name on the hub or a path), where it was loaded before this package was imported. The first
   * `loadAdapter` compares what is found there with the model, and refuses another one (`INVALID_OPTION`).
   */
  readonly model?: string
  /** The options it was loaded with (`revision`, `cache_dir`, …), together with `model`; `dtype` and `device` only where sessions differ in them. */
  readonly modelOptions?: PretrainedModelOptions
  readonly moduleNames?: ModuleNames
  /** The native kernel: where it can be (`auto`, the default), never, or not without it. */
  readonly native?: 'auto' | boolean
}

/**
 * Nothing about the model's answers changes before an adapter is loaded. No session is made, and nothing is read in browsers.
 *
 * @param target a pipeline or a model
 * @throws {FourierFTError} `INVALID_OPTION` for what is neither, for unknown options, or where the option `model` is needed; `UNSUPPORTED` for a model without
 *   sessions; `INVALID_STATE` for one that is attached already, or has adapters in its weights since `mergeAndUnload`
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
  checkFree(model)
  if (sessionsOf(model).size === 0)
    throw new FourierFTError(
      'UNSUPPORTED',
      'the model has no sessions of ONNX Runtime that adapters could change',
    )
  const files = new ModelFiles(model, originFor(model, options))
  const pipeline = (target as unknown) === model ? undefined : (target as PipelineLike)
  const parts = await Promise.all(
    Array.from(sessionsOf(model), async ([name, session]) => {
      const ort = await ortOf(session)
      return new ModelPart({ name, session, ort, files, options: { moduleNames, native } })
    }),
  )
  // It may have been attached meanwhile.
  checkFree(model)
  const host = new ModelHost(parts, files, moduleNames)
  return new ModelAdapters({ model, pipeline, parts, host })
}

function checkFree(model: PreTrainedModel): void {
  if (Object.values(model.sessions).some((session) => session instanceof PartSession))
    throw new FourierFTError(
      'INVALID_STATE',
      'the model is attached already; use the object that attach() gave, or detach() it first',
    )
  // Its files have the weights of before, and sessions are made of files.
  if (isMergedForGood(model))
    throw new FourierFTError(
      'INVALID_STATE',
      'mergeAndUnload() has left adapters in the weights of this model; load the model once more to attach that',
    )
}

function originFor(model: PreTrainedModel, { model: name, modelOptions = {} }: AttachOptions): Origin {
  const options = { ...chosenOptions(model), ...modelOptions }
  const origin = name === undefined ? originOf(model) : { name, options }
  if (origin) return origin
  throw new FourierFTError(
    'INVALID_OPTION',
    'model: the model was loaded before @fourierft/transformers was imported, or by another copy of @huggingface/transformers, so that ' +
      'its files are not known. Import this package first, or name what the model was loaded by: attach(…, { model, modelOptions })',
    { option: 'model' },
  )
}

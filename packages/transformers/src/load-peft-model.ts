/** `loadPeftModel`: loads an adapter and a pipeline of its base model. */
import { type Adapter, type AdapterSource, FourierFTError, rejectTrainedBiases } from '@fourierft/core'
import {
  type AllTasks,
  type PipelineType,
  type PretrainedModelOptions,
  pipeline,
} from '@huggingface/transformers'
import { type AttachOptions, attach } from './attach.js'
import { useHubOfEnvironment } from './environment.js'
import { isMissingFile } from './library.js'
import type { LoadOptions, ModelAdapters } from './model-adapters.js'
import { readAdapter } from './read-adapter.js'

/** The options of `pipeline` (`dtype`, `device`, `progress_callback`, …) are for the base model. */
export interface LoadPeftModelOptions<Task extends PipelineType>
  extends PretrainedModelOptions,
    Pick<AttachOptions, 'moduleNames' | 'native'> {
  /** Default: the task of PEFT's `task_type`. */
  readonly task?: Task
  /** The base model, with ONNX files; default: `base_model_name_or_path`. */
  readonly base?: string
  /** The options of `loadAdapter`: the adapter's name, and where its files are. */
  readonly adapter?: LoadOptions
}

export interface PeftModel<Task extends PipelineType> {
  readonly pipe: AllTasks[Task]
  readonly adapters: ModelAdapters
}

/** @see https://huggingface.co/docs/peft/package_reference/peft_types */
const TASKS: ReadonlyMap<string, PipelineType> = new Map([
  ['SEQ_CLS', 'text-classification'],
  ['TOKEN_CLS', 'token-classification'],
  ['QUESTION_ANS', 'question-answering'],
  ['CAUSAL_LM', 'text-generation'],
  ['SEQ_2_SEQ_LM', 'text2text-generation'],
  ['FEATURE_EXTRACTION', 'feature-extraction'],
])

/**
 * Loads an adapter and a pipeline of its base model.
 *
 * @throws {FourierFTError} `INVALID_OPTION` if neither the adapter nor an option specifies the base model or the task, `FILE_NOT_FOUND` for a base
 *   without ONNX files, and the errors of `attach` and `loadAdapter`; then the model is disposed of
 */
export async function loadPeftModel<Task extends PipelineType>(
  source: AdapterSource | Adapter,
  options: LoadPeftModelOptions<Task> = {},
): Promise<PeftModel<Task>> {
  const { task, base, adapter: loadOptions = {}, moduleNames, native, ...modelOptions } = options
  const { progress_callback, local_files_only } = modelOptions
  const { name, ...files } = loadOptions
  const adapter = await readAdapter(source, {
    ...(progress_callback && { progress_callback }),
    ...(local_files_only && { offline: true }),
    ...files,
  })
  rejectTrainedBiases(name ?? 'default', adapter.config)
  const { taskType, baseModelNameOrPath, revision } = adapter.config
  const chosenTask = task ?? (taskType === null ? undefined : (TASKS.get(taskType) as Task | undefined))
  if (chosenTask === undefined)
    throw new FourierFTError('INVALID_OPTION', 'task: the adapter does not specify a task (task_type)', {
      advice: "pass the pipeline's task, such as 'image-classification'",
      option: 'task',
      received: taskType,
    })
  const chosenBase = base ?? baseModelNameOrPath
  if (!chosenBase)
    throw new FourierFTError(
      'INVALID_OPTION',
      'base: the adapter does not specify a base model (base_model_name_or_path)',
      { advice: 'pass its name as the option base', option: 'base', received: chosenBase },
    )
  const baseRevision = base === undefined && revision !== null ? { revision } : {}
  useHubOfEnvironment()
  const pipe = await load(chosenTask, chosenBase, { ...baseRevision, ...modelOptions })
  try {
    const adapters = await attach(pipe, {
      ...(moduleNames && { moduleNames }),
      ...(native !== undefined && { native }),
    })
    await adapters.loadAdapter(adapter, name === undefined ? {} : { name })
    return { pipe, adapters }
  } catch (error) {
    await pipe.dispose()
    throw error
  }
}

async function load<Task extends PipelineType>(
  task: Task,
  base: string,
  options: PretrainedModelOptions,
): Promise<AllTasks[Task]> {
  try {
    return await pipeline(task, base, options)
  } catch (cause) {
    if (!isMissingFile(cause)) throw cause
    throw new FourierFTError(
      'FILE_NOT_FOUND',
      `${base}: transformers.js found no model (${(cause as Error).message})`,
      {
        advice:
          'repositories of PyTorch models often have no ONNX files; pass a repository that has them as the option base',
        file: base,
        option: 'base',
        cause,
      },
    )
  }
}

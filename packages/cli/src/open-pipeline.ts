/** Loads a pipeline of transformers.js, from a folder or from the hub, and attaches to it. */
import { stat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import type { ModelAdapters } from '@fourierft/transformers'
import type { DataType, PipelineType } from '@huggingface/transformers'
import { CommandError, usageError } from './command-error.js'
import { importPackage } from './import-package.js'

/** The tasks that `train` of `@fourierft/transformers` knows. */
export const TASKS = [
  'text-classification',
  'token-classification',
  'feature-extraction',
  'text-generation',
  'text2text-generation',
  'translation',
  'summarization',
  'image-classification',
] as const satisfies readonly PipelineType[]

export const DTYPES = [
  'auto',
  'fp32',
  'fp16',
  'q8',
  'int8',
  'uint8',
  'q4',
  'bnb4',
  'q4f16',
] as const satisfies readonly DataType[]

export interface PipelineOptions {
  /** A folder, or a name on the hub. */
  readonly model: string
  readonly task: (typeof TASKS)[number]
  readonly dtype: (typeof DTYPES)[number]
}

export interface OpenPipeline {
  readonly transformers: typeof import('@fourierft/transformers')
  readonly adapters: ModelAdapters
  close(): Promise<void>
}

export async function openPipeline({ model, task, dtype }: PipelineOptions): Promise<OpenPipeline> {
  if (model === '')
    throw usageError('--model: expected a folder or a name on the hub; received an empty string')
  // It notes how models are loaded, so it has to be imported first.
  const transformers = await importPackage('@fourierft/transformers', () => import('@fourierft/transformers'))
  const { env, pipeline } = await importPackage(
    '@huggingface/transformers',
    () => import('@huggingface/transformers'),
  )
  const isFolder = await stat(model).then(
    (status) => status.isDirectory(),
    () => false,
  )
  const folder = resolve(model)
  if (isFolder) {
    env.localModelPath = dirname(folder)
    // Otherwise files that the folder does not have would be searched on the hub, under the folder's name.
    env.allowRemoteModels = false
  }
  const pipe = await pipeline(task, isFolder ? basename(folder) : model, { dtype }).catch(
    (cause: unknown) => {
      throw new CommandError(
        'MODEL',
        `${model} could not be loaded for ${task} with --dtype ${dtype}: ${cause instanceof Error ? cause.message : String(cause)}`,
        { advice: 'check --model, --task and --dtype, and the connection if it is a name on the hub' },
      )
    },
  )
  return {
    transformers,
    adapters: await transformers.attach(pipe as Parameters<typeof transformers.attach>[0]),
    async close() {
      await pipe.dispose()
    },
  }
}

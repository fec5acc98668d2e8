/** `serve`: loads a model, and serves it with its adapters over HTTP. */
import { basename, dirname, resolve } from 'node:path'
// Imported before transformers.js, because it notes how models are loaded.
import '@fourierft/transformers'
import { FourierFTError } from '@fourierft/core'
import { AutoConfig, env, type PretrainedModelOptions, pipeline } from '@huggingface/transformers'
import { readPooling } from './apis/openai/read-pooling.js'
import type { Pipe } from './engine.js'
import { isFolder } from './is-folder.js'
import { type Logger, openLogger } from './log.js'
import { Metrics } from './metrics.js'
import { createEngine, type EngineOptions } from './model-engine.js'
import { type ListenOptions, listen, type RunningServer } from './node.js'
import { DEFAULT_MAX_BYTES, folderResolver } from './resolver/folder.js'
import { type FindAdapter, functionResolver } from './resolver/function.js'
import { type HubResolverOptions, hubResolver } from './resolver/hub.js'
import { type Resolver, resolverOf } from './resolver/resolver.js'
import { taskOf } from './task-of.js'

export interface ServeOptions
  extends ListenOptions,
    Omit<EngineOptions, 'resolver' | 'metrics' | 'name' | 'ownsPipeline'> {
  /** The name of the base model in the APIs. Default: that of the folder, or that on the hub. */
  readonly name?: string | undefined
  /** A folder, or a name on the hub, of a model with ONNX files. */
  readonly model: string
  /** The task of the pipeline, in the words of transformers.js. Default: by the class of the model in its `config.json`. */
  readonly task?: string | undefined
  /** Of the model: `dtype`, `device`, `revision`, … as in transformers.js. `dtype` is `fp32` by default. */
  readonly modelOptions?: PretrainedModelOptions | undefined
  /** A folder whose subfolders are adapters, or a function that finds an adapter by its name. */
  readonly adapters?: string | FindAdapter | undefined
  /** Largest size of an adapter's file in bytes. Default 64 MiB; `hub` can have another one. */
  readonly maxAdapterBytes?: number | undefined
  /** Adapters on the hub, of these owners only. */
  readonly hub?: HubResolverOptions | undefined
}

/**
 * Loads a model, and serves it.
 *
 * @throws the errors of `pipeline` of transformers.js, `createEngine` and `listen`; then nothing stays open
 */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const { model, modelOptions = {}, metrics = new Metrics() } = options
  const logger = openLogger(options.logger)
  const resolvers = await resolversOf(options, logger)
  const path = await useFolder(model)
  const task = options.task ?? taskOf(await AutoConfig.from_pretrained(path), model)
  const pipe = (await pipeline(task as 'feature-extraction', path, {
    dtype: 'fp32',
    ...modelOptions,
    // ONNX Runtime would print numbers of requests that it rejects.
    session_options: { logSeverityLevel: 4, ...modelOptions.session_options },
  })) as unknown as Pipe
  const engine = await createEngine(pipe, {
    ...options,
    name: options.name ?? path,
    metrics,
    ownsPipeline: true,
    resolver: resolvers.length > 0 ? resolverOf(resolvers) : undefined,
  }).catch(async (error) => {
    await pipe.model.dispose()
    throw error
  })
  try {
    const embedding = options.embedding ?? (path === model ? undefined : await readPooling(model))
    return await listen(engine, { ...options, logger, metrics, ...(embedding && { embedding }) })
  } catch (error) {
    await engine.close(0)
    throw error
  }
}

async function resolversOf(
  { adapters, hub, maxAdapterBytes: maxBytes = DEFAULT_MAX_BYTES }: ServeOptions,
  logger: Logger,
): Promise<Resolver[]> {
  if (!(Number.isSafeInteger(maxBytes) && maxBytes > 0))
    throw new TypeError('maxAdapterBytes: expected bytes, more than 0')
  if (typeof adapters === 'string' && !(await isFolder(adapters))) {
    throw new FourierFTError('INVALID_OPTION', `adapters: expected a folder; ${adapters} is none`, {
      advice: 'make it, also if it is empty at first',
      option: 'adapters',
      received: adapters,
    })
  }
  const given = { maxBytes, onWarning: (line: string) => logger.warn({}, line) }
  const named =
    typeof adapters === 'string'
      ? folderResolver(adapters, given)
      : adapters && functionResolver(adapters, given)
  return [...(named ? [named] : []), ...(hub ? [hubResolver({ ...given, ...hub })] : [])]
}

/** Makes transformers.js load a folder. @returns the name under which it finds the model */
async function useFolder(model: string): Promise<string> {
  if (!(await isFolder(model))) return model
  const folder = resolve(model)
  env.localModelPath = dirname(folder)
  // Otherwise files that the folder does not have would be searched on the hub, under the folder's name.
  env.allowRemoteModels = false
  return basename(folder)
}

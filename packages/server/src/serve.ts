/** `serve`: loads a model, and serves it with its adapters over HTTP. */
import { stat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
// Imported before transformers.js, because it notes how models are loaded.
import '@fourierft/transformers'
import { AutoConfig, env, type PretrainedModelOptions, pipeline } from '@huggingface/transformers'
import { readPooling } from './apis/openai/read-pooling.js'
import type { Pipe } from './engine.js'
import { Metrics } from './metrics.js'
import { createEngine, type EngineOptions } from './model-engine.js'
import { type ListenOptions, listen, type RunningServer } from './node.js'
import { folderResolver } from './resolver/folder.js'
import { type FindAdapter, functionResolver } from './resolver/function.js'
import { type HubResolverOptions, hubResolver } from './resolver/hub.js'
import { type Resolver, resolverOf } from './resolver/resolver.js'
import { taskOf } from './task-of.js'

export interface ServeOptions extends ListenOptions, Omit<EngineOptions, 'resolver' | 'metrics' | 'name'> {
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
  const resolvers = resolversOf(options)
  const path = await useFolder(model)
  const task = options.task ?? taskOf(await AutoConfig.from_pretrained(path), model)
  const pipe = (await pipeline(task as 'feature-extraction', path, {
    dtype: 'fp32',
    ...modelOptions,
    // ONNX Runtime would print numbers of requests that it rejects.
    session_options: { logSeverityLevel: 4, ...modelOptions.session_options },
  })) as unknown as Pipe
  try {
    const engine = await createEngine(pipe, {
      ...options,
      name: options.name ?? path,
      metrics,
      resolver: resolvers.length > 0 ? resolverOf(resolvers) : undefined,
    })
    try {
      const embedding = options.embedding ?? (path === model ? undefined : await readPooling(model))
      const server = await listen(engine, { ...options, metrics, ...(embedding && { embedding }) })
      return {
        url: server.url,
        async close() {
          await server.close()
          await pipe.model.dispose()
        },
      }
    } catch (error) {
      await engine.close(0)
      throw error
    }
  } catch (error) {
    await pipe.model.dispose()
    throw error
  }
}

function resolversOf({ adapters, hub }: ServeOptions): Resolver[] {
  const named =
    typeof adapters === 'string' ? folderResolver(adapters) : adapters && functionResolver(adapters)
  return [...(named ? [named] : []), ...(hub ? [hubResolver(hub)] : [])]
}

/** Makes transformers.js load a folder. @returns the name under which it finds the model */
async function useFolder(model: string): Promise<string> {
  const isFolder = await stat(model).then(
    (stats) => stats.isDirectory(),
    () => false,
  )
  if (!isFolder) return model
  const folder = resolve(model)
  env.localModelPath = dirname(folder)
  // Otherwise files that the folder does not have would be searched on the hub, under the folder's name.
  env.allowRemoteModels = false
  return basename(folder)
}

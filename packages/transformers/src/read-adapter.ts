/** `readAdapter`: reads an adapter's files, and reports the progress as transformers.js does. */
import { Adapter, type AdapterSource, type LoadAdapterOptions } from '@fourierft/core'
import type { ProgressCallback } from '@huggingface/transformers'
import { loadFromTransformersEnv } from './load-from-transformers-env.js'

export interface ReadAdapterOptions extends LoadAdapterOptions {
  /** Receives `initiate`, `download`, `progress` and `done` for each file of the adapter; only `initiate` and `done` if it is not downloaded. */
  readonly progress_callback?: ProgressCallback
}

const FILES = ['adapter_config.json', 'adapter_model.safetensors']

/** @throws {FourierFTError} the errors of `loadAdapter` of `@fourierft/core` */
export async function readAdapter(
  source: AdapterSource | Adapter,
  { progress_callback: report, ...options }: ReadAdapterOptions = {},
): Promise<Adapter> {
  if (Adapter.isInstance(source)) return source
  if (report === undefined) return loadFromTransformersEnv(source, options)
  const name = typeof source === 'string' || source instanceof URL ? String(source) : 'adapter'
  for (const file of FILES) report({ status: 'initiate', name, file })
  const downloads = new Set<string>()
  const adapter = await loadFromTransformersEnv(source, {
    ...options,
    onProgress(progress) {
      const { file, loaded, total = loaded } = progress
      if (!downloads.has(file)) report({ status: 'download', name, file })
      downloads.add(file)
      report({ status: 'progress', name, file, progress: (100 * loaded) / total, loaded, total })
      options.onProgress?.(progress)
    },
  })
  for (const file of FILES) report({ status: 'done', name, file })
  return adapter
}

/** An adapter's files, with progress told as transformers.js tells its own. */
import { Adapter, type AdapterSource, type LoadAdapterOptions } from '@fourierft/core'
import type { ProgressCallback } from '@huggingface/transformers'
import { loadWhereModelsAre } from './load-where-models-are.js'

export interface ReadAdapterOptions extends LoadAdapterOptions {
  /** Is told of each of the adapter's files `initiate`, `download`, `progress` and `done`; of files that are at hand only the first and last. */
  readonly progress_callback?: ProgressCallback
}

const FILES = ['adapter_config.json', 'adapter_model.safetensors']

/** @throws {FourierFTError} what `loadAdapter` of `@fourierft/core` throws */
export async function readAdapter(
  source: AdapterSource | Adapter,
  { progress_callback: tell, ...options }: ReadAdapterOptions = {},
): Promise<Adapter> {
  if (Adapter.isInstance(source)) return source
  if (tell === undefined) return loadWhereModelsAre(source, options)
  const name = typeof source === 'string' || source instanceof URL ? String(source) : 'adapter'
  for (const file of FILES) tell({ status: 'initiate', name, file })
  const downloads = new Set<string>()
  const adapter = await loadWhereModelsAre(source, {
    ...options,
    onProgress(progress) {
      const { file, loaded, total = loaded } = progress
      if (!downloads.has(file)) tell({ status: 'download', name, file })
      downloads.add(file)
      tell({ status: 'progress', name, file, progress: (100 * loaded) / total, loaded, total })
      options.onProgress?.(progress)
    },
  })
  for (const file of FILES) tell({ status: 'done', name, file })
  return adapter
}

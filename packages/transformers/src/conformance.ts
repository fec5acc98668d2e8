/**
 * The backend of transformers.js for the conformance suite and the command line. Each layer is a small model: `from_pretrained` loads it, `attach`
 * prepares it, and `forward` calls it. Gradients come from the training graphs that trainers open for the adapters.
 */
import { FourierFTError } from '@fourierft/core'
import type { Backend } from '@fourierft/core/conformance'
import type { RunOptions } from '@fourierft/onnxruntime'
import { createOnnxRuntimeBackend, type LayerSession } from '@fourierft/onnxruntime/conformance'
import { env, PreTrainedModel, PretrainedConfig, Tensor } from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'
import { attach } from './attach.js'

/**
 * @param options.native whether to use the native kernel
 * @throws {FourierFTError} `UNSUPPORTED` if transformers.js does not use `onnxruntime-node`, or there is no native kernel
 */
export async function createTransformersBackend({ native }: { readonly native: boolean }): Promise<Backend> {
  const ort = await platform.loadOrt()
  if (ort === undefined)
    throw new FourierFTError(
      'UNSUPPORTED',
      'transformers.js does not use onnxruntime-node in this environment',
      {
        advice: 'run this backend in Node, with onnxruntime-node installed',
      },
    )
  const {
    versions,
    resources: _,
    ...backend
  } = await createOnnxRuntimeBackend(native ? 'native' : 'cpu', {
    ort,
    open: (model) => openLayer(model, native),
  })
  return {
    ...backend,
    name: 'transformers',
    versions: { transformers: env.version, ...versions },
  }
}

async function openLayer(file: Uint8Array, native: boolean): Promise<LayerSession> {
  const { folder, remove } = await platform.writeTemporaryModel(file)
  const model = await PreTrainedModel.from_pretrained(folder, {
    config: new PretrainedConfig({ model_type: 'custom' }),
    dtype: 'fp32',
  })
  const adapters = await attach(model, { native })
  return {
    async run(feeds: InferenceSession.FeedsType, options?: object) {
      const inputs = Object.fromEntries(
        Object.entries(feeds).map(([name, { data, dims }]) => [
          name,
          new Tensor('float32', data as Float32Array, [...dims]),
        ]),
      )
      const { adapters: rows }: RunOptions = options ?? {}
      return rows ? adapters.withAdapterPerRow(rows, () => model(inputs)) : model(inputs)
    },
    get enabled() {
      return adapters.enabled
    },
    get trainable() {
      return adapters.trainable
    },
    get mergedAdapters() {
      return adapters.mergedAdapters
    },
    loadAdapter: (source, options) => adapters.loadAdapter(source, options),
    deleteAdapter: (name) => adapters.deleteAdapter(name),
    setAdapter: (names) => adapters.setAdapter(names),
    disableAdapters: () => adapters.disableAdapters(),
    enableAdapters: () => adapters.enableAdapters(),
    mergeAdapter: (names) => adapters.mergeAdapter(names),
    unmergeAdapter: () => adapters.unmergeAdapter(),
    async release() {
      await model.dispose()
      await remove()
    },
  }
}

/** Writes the ONNX model to a folder that transformers.js can load: `config.json`, `preprocessor_config.json`, `onnx/model.onnx`. */
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Checkpoint } from './checkpoint.js'
import { onnxTransformer } from './onnx-transformer.js'
import type { VisionTransformerConfig } from './vision-transformer.js'

/** @returns the path of `model.onnx` */
export async function writeOnnxFolder(folder: string, checkpoint: Checkpoint): Promise<string> {
  const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`
  const model = join(folder, 'onnx', 'model.onnx')
  await mkdir(dirname(model), { recursive: true })
  await writeFile(join(folder, 'config.json'), json(checkpoint.config))
  await writeFile(join(folder, 'preprocessor_config.json'), json(preprocessing(checkpoint.config)))
  await writeFile(model, onnxTransformer(checkpoint).toBytes())
  return model
}

/** Makes transformers.js map the bytes of grey images to values −1…1, as `toImages` does. */
const preprocessing = ({ image_size: size }: VisionTransformerConfig) => ({
  image_processor_type: 'ViTImageProcessor',
  do_convert_rgb: false,
  do_resize: true,
  size: { height: size, width: size },
  resample: 2,
  do_rescale: true,
  rescale_factor: 1 / 255,
  do_normalize: true,
  image_mean: [0.5],
  image_std: [0.5],
})

/** Images with a class each. */

import { FourierFTError } from '@fourierft/core'
import { type Processor, RawImage } from '@huggingface/transformers'
import { Tensor } from 'onnxruntime-common'
import { classificationLoss } from '../classification-loss.js'
import { eachRow } from '../each-row.js'
import { int64 } from '../feeds.js'
import { checkLabel, classesOf, type Label, LabelIds, labelsOf } from '../labels.js'
import { ClassMetric } from '../metrics.js'
import { outputNamed } from '../outputs.js'
import { checkRow, fieldOf, rowError, shown } from '../row-error.js'
import type { Example, Task, TaskContext } from '../task.js'

/** A path, a URL, or an image in memory. */
export type ImageSource = string | URL | Blob | RawImage

export interface ImageClassificationRow {
  readonly image: ImageSource
  readonly label: Label
}

/** An image as it was given: it is decoded for each batch, because decoded images would fill the memory. */
interface Image extends Example {
  readonly image: ImageSource
  readonly class: number
  readonly position: number
}

export const imageClassification: Task<ImageClassificationRow, Image> = {
  pipelines: ['image-classification'],
  taskType: null,
  check(row, position) {
    const fields = checkRow(row, position, '{ image: "cat.png", label: "cat" }')
    const image = fieldOf(fields, 'image', position)
    const isImage =
      (typeof image === 'string' && image !== '') ||
      image instanceof URL ||
      image instanceof Blob ||
      image instanceof RawImage
    if (!isImage)
      throw rowError(
        position,
        'image',
        `expected a path, a URL, a Blob or a RawImage; received ${shown(image)}`,
        { received: image },
      )
    return { image, label: checkLabel(fieldOf(fields, 'label', position), 'label', position) }
  },
  labelsOf: (rows, known) =>
    labelsOf(
      rows.map(({ label }, position) => ({ position, label })),
      { names: known.names.length > 1 ? known.names : [] },
    ),
  encoder(context) {
    const { names } = classesOf(context.labels)
    const output = outputNamed(context, ['logits']).name
    const ids = new LabelIds(names)
    const processor = processorOf(context)
    return {
      ...classificationLoss(output, context),
      metric: () => new ClassMetric(names),
      encode: (rows, options) =>
        eachRow(
          rows,
          async ({ image, label }, position) => {
            // An image that cannot be read is found before the training starts.
            await read(image, position)
            return { image, class: ids.idOf(label, 'label', position), position, length: 0, cut: 0 }
          },
          options,
        ),
      async collate(examples) {
        const images = await Promise.all(examples.map(({ image, position }) => read(image, position)))
        const values: Readonly<Record<string, PixelTensor>> = await processor(images)
        const classes = examples.map((example) => example.class)
        return { feeds: feedsOf(context, values), labels: int64(classes, [examples.length]) }
      },
    }
  },
}

function processorOf({ processor, pipeline }: TaskContext): Processor {
  if (processor) return processor
  throw new FourierFTError('UNSUPPORTED', `${pipeline}: the pipeline has no image processor`, {
    advice: 'attach to a pipeline instead of a model',
  })
}

async function read(image: ImageSource, position: number): Promise<RawImage> {
  try {
    return await RawImage.read(image)
  } catch (cause) {
    throw rowError(position, 'image', `it could not be read: ${(cause as Error).message}`, {
      ...(typeof image === 'string' && { file: image }),
      cause,
    })
  }
}

/** A tensor of transformers.js. */
interface PixelTensor {
  readonly type: string
  readonly data: unknown
  readonly dims: readonly number[]
}

/** @throws {FourierFTError} `UNSUPPORTED` for an input that the processor does not make */
function feedsOf({ inputs }: TaskContext, values: Readonly<Record<string, PixelTensor>>) {
  return Object.fromEntries(
    inputs.map(({ name, type }) => {
      const value = Object.hasOwn(values, name) ? values[name] : undefined
      if (value?.type === 'float32' && type === 'float32')
        return [name, new Tensor('float32', value.data as Float32Array, value.dims)]
      throw new FourierFTError(
        'UNSUPPORTED',
        `the model has the input ${name} of type ${type}, but its image processor gives ${value?.type ?? 'nothing'} for it`,
        { expected: type, received: value?.type },
      )
    }),
  )
}

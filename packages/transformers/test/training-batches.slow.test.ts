/** The batches of each task, in the trainer: it accepts them, and their loss falls. */
import { fileURLToPath } from 'node:url'
import { createSession, createTrainer } from '@fourierft/onnxruntime'
import { RawImage } from '@huggingface/transformers'
import { expect, test } from 'vitest'
import { contextOf, ortOfTransformers } from '../src/train/__fixtures__/context.js'
import { createBatches } from '../src/train/batches.js'
import { taskOf } from '../src/train/tasks/tasks.js'

const FIXTURES = fileURLToPath(new URL('__fixtures__', import.meta.url))
const TEXTS = ['the rain was long', 'she reads a letter', 'what a good film', 'the soup was cold']
/** Layers of 32 features need a lower rate than the default, which is for real models. */
const LEARNING_RATE = 0.01
const NAMES = ['bad', 'neutral', 'good']
const imageOf = (i: number) =>
  new RawImage(
    Uint8ClampedArray.from({ length: 768 }, (_, k) => (k * (i + 3)) % 251),
    16,
    16,
    3,
  )

interface Case {
  readonly name: string
  readonly pipeline: string
  readonly rows: readonly object[]
  readonly names?: readonly string[]
  readonly problemType?: string
  readonly metric?: string
}

const cases: readonly Case[] = [
  {
    name: 'bert',
    pipeline: 'text-classification',
    rows: TEXTS.map((text, i) => ({ text, label: i % 3 })),
    names: NAMES,
    metric: 'accuracy',
  },
  {
    name: 'bert',
    pipeline: 'text-classification',
    rows: TEXTS.map((text, i) => ({ text, text_pair: TEXTS[0], label: i === 0 ? [] : ['good', 0] })),
    names: NAMES,
    problemType: 'multi_label_classification',
    metric: 'accuracy',
  },
  {
    name: 'roberta',
    pipeline: 'feature-extraction',
    rows: TEXTS.map((text, i) => ({ text, text_pair: TEXTS[3 - i], score: i / 4 })),
    metric: 'spearman',
  },
  {
    name: 'roberta',
    pipeline: 'feature-extraction',
    rows: TEXTS.map((text, i) => ({ text, text_pair: TEXTS[(i + 1) % 4] })),
  },
  { name: 'gpt2', pipeline: 'text-generation', rows: TEXTS.map((text) => ({ text })), metric: 'perplexity' },
  {
    name: 'llama',
    pipeline: 'text-generation',
    rows: TEXTS.map((text) => ({ prompt: `${text}:`, completion: ' a letter' })),
    metric: 'perplexity',
  },
  {
    name: 'vit',
    pipeline: 'image-classification',
    rows: TEXTS.map((_, i) => ({ image: imageOf(i), label: i })),
    names: ['a', 'b', 'c', 'd'],
    metric: 'accuracy',
  },
]

test.each(cases)(
  '$pipeline with $name',
  async ({ name, pipeline, rows, names = [], problemType, metric }) => {
    const path = `${FIXTURES}/${name}/onnx/model.onnx`
    const plain = await ortOfTransformers().InferenceSession.create(path)
    const task = taskOf(pipeline)
    const checked = rows.map((row, position) => task.check(row, position))
    const context = await contextOf(name, {
      pipeline,
      inputs: plain.inputMetadata as never,
      outputs: plain.outputMetadata as never,
      labels: task.labelsOf?.(checked, { names, problemType }),
    })
    expect(context.labels?.isNew ?? false).toBe(false)
    const encoder = task.encoder(context, checked)
    const batches = createBatches(await encoder.encode(checked), {
      size: 3,
      seed: 1,
      collate: encoder.collate,
    })
    expect(batches.length).toBe(2)

    const session = await createSession(path)
    await session.addAdapter('a', { targetModules: 'all-linear', nFrequency: 90 })
    const trainer = await createTrainer(session, {
      adapter: 'a',
      loss: encoder.loss,
      learningRate: LEARNING_RATE,
    })
    const losses: number[] = []
    for (let epoch = 0; epoch < 8; epoch++) {
      const all = []
      for await (const batch of batches.batches(epoch)) all.push(batch)
      losses.push((await trainer.step(all)).loss)
    }
    expect(Math.min(...losses.slice(4))).toBeLessThan(0.95 * losses[0])

    const metrics = encoder.metric()
    const evaluation = await trainer.evaluate(batches, { metrics })
    expect(Object.keys(evaluation.metrics ?? {})[0]).toBe(metric)
    if (metric !== undefined)
      expect(evaluation.metrics?.[metric]).toBeGreaterThan(metric === 'perplexity' ? 1 : -1)
    await trainer.release()
    await session.release()
    await plain.release()
  },
)

/** Heads that are added to models give the logits of Hugging Face's transformers, with weights under the names that PEFT gives them. */
import { readFileSync } from 'node:fs'
import { FourierFTError } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { attachBranches } from '../attach/attach.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { createModel } from '../model/create-model.js'
import { type OnnxModel, readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { addHead } from './add-head.js'
import { ARCHITECTURES, type HeadTask } from './architectures.js'
import { type Head, headFor, headModules, nameWithHead } from './head.js'

interface Stored {
  readonly shape: readonly number[]
  readonly values: readonly number[]
}

interface Recorded {
  readonly modelType: string
  readonly task: HeadTask
  readonly root: string
  readonly hidden: Stored
  readonly saved: Readonly<Record<string, Stored>>
  readonly logits: Stored
}

/** Written by `scripts/head-vectors.py`. */
const { heads }: { readonly heads: readonly Recorded[] } = JSON.parse(
  readFileSync(new URL('__fixtures__/heads.json', import.meta.url), 'utf8'),
)

/** Makes a model without a head: its last hidden state is its input. */
function encoder(features: number, opset = 17, dataType: number = DataType.float): OnnxModel {
  const value = (name: string) => ({ name, dataType, dims: ['batch', 'tokens', features] })
  return createModel(
    {
      name: 'main',
      inputs: [value('x')],
      outputs: [value('last_hidden_state')],
      initializers: [],
      nodes: [{ name: '/Identity', opType: 'Identity', inputs: ['x'], outputs: ['last_hidden_state'] }],
    },
    { opset },
  )
}

const tensor = ({ shape, values }: Stored) => new Tensor('float32', Float32Array.from(values), shape)

function transposed({ shape: [rows = 0, columns = 0], values }: Stored): Stored {
  const flipped = values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)])
  return { shape: [columns, rows], values: flipped }
}

/** Adds an axis for the adapters: there is one. */
const stacked = ({ shape, values }: Stored): Stored => ({ shape: [1, ...shape], values })

/** Adds the head, and replaces its weights by recorded ones as adapters do. */
async function logitsOf(model: OnnxModel, head: Head, { saved, hidden }: Recorded): Promise<Tensor> {
  addHead(model, head)
  const read = readModel(model.toBytes())
  const layers = findLinearLayers(read)
  expect(layers.map(({ module }) => module)).toEqual(headModules(head))
  const replaceable = layers.map((layer) => ({
    layer,
    module: layer.module as string,
    hasFreeWidth: layer.module === head.output,
  }))
  const { rows, weights } = attachBranches(read, [], { replaceable })
  const feeds: Record<string, Tensor> = {
    x: tensor(hidden),
    [rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
  }
  for (const [module, { weight, bias = '', rows: ofRows }] of weights) {
    feeds[weight] = tensor(stacked(transposed(saved[`base_model.model.${module}.weight`] as Stored)))
    feeds[bias] = tensor(stacked(saved[`base_model.model.${module}.bias`] as Stored))
    feeds[ofRows] = new Tensor('int64', BigInt64Array.of(0n), [1])
  }
  const session = await createSession(read.toBytes())
  const used = Object.fromEntries(session.inputNames.map((name) => [name, feeds[name] as Tensor]))
  const { logits } = await session.run(used)
  await session.release()
  return logits as Tensor
}

describe('addHead', () => {
  test.each(heads.map((head) => [head.modelType, head.task, head] as const))(
    '%s, %s',
    async (modelType, task, recorded) => {
      const { hidden, logits: expected, saved, root } = recorded
      const model = encoder(hidden.shape[2] as number)
      const head = headFor(task, { model_type: modelType }, model.graph.outputs)
      expect(head.root).toBe(root)
      const names = headModules(head).flatMap((module) =>
        ['weight', 'bias'].map((kind) => `base_model.model.${module}.${kind}`),
      )
      expect(Object.keys(saved).sort()).toEqual(names.sort())
      const logits = await logitsOf(model, head, recorded)
      expect(logits.dims).toEqual(expected.shape)
      // Two products of at most 8 terms and an activation, of numbers below 8, and the rounding of the recorded numbers: 2·10·8·2⁻²⁴.
      for (const [i, value] of (logits.data as Float32Array).entries())
        expect(Math.abs(value - (expected.values[i] as number))).toBeLessThan(1e-5)
    },
  )

  test('has recorded numbers for each architecture and task', () => {
    const known = [...ARCHITECTURES].flatMap(([name, { tasks }]) =>
      Object.keys(tasks).map((task) => `${name} ${task}`),
    )
    expect(heads.map(({ modelType, task }) => `${modelType} ${task}`).sort()).toEqual(known.sort())
  })

  test.each([11, 18])('works with opset %s', async (opset) => {
    const recorded = heads.find(({ modelType }) => modelType === 'dinov2') as Recorded
    const model = encoder(4, opset)
    const head = headFor('image-classification', { model_type: 'dinov2' }, model.graph.outputs)
    const { data } = await logitsOf(model, head, recorded)
    for (const [i, value] of (data as Float32Array).entries())
      expect(Math.abs(value - (recorded.logits.values[i] as number))).toBeLessThan(1e-5)
  })
})

describe('headFor', () => {
  const hidden = { name: 'last_hidden_state', dims: ['batch', 'tokens', 6] }

  test('uses the pooler of the file, if there is one', () => {
    const pooled = { name: 'pooler_output', dims: ['batch', 6] }
    expect(headFor('text-classification', { model_type: 'bert' }, [hidden, pooled])).toMatchObject({
      input: 'pooler_output',
      pooling: 'none',
      hidden: undefined,
    })
    expect(headFor('text-classification', { model_type: 'roberta' }, [hidden, pooled]).input).toBe(
      hidden.name,
    )
  })

  test('finds the last hidden state by its name or its shape', () => {
    const inputOf = (...outputs: { name: string; dims: unknown[] }[]) =>
      headFor('token-classification', { model_type: 'bert' }, outputs).input
    expect(
      inputOf({ name: 'sentence_embedding', dims: ['b', 6] }, { ...hidden, name: 'token_embeddings' }),
    ).toBe('token_embeddings')
    expect(inputOf({ name: 'ids', dims: ['b', 't'] }, { ...hidden, name: '422' })).toBe('422')
    expect(() => inputOf({ ...hidden, name: '1' }, { ...hidden, name: '2' })).toThrow(
      /last hidden state: 1, 2/,
    )
  })

  test('reads the number of features from the configuration if the file has none', () => {
    const outputs = [{ name: 'last_hidden_state', dims: undefined }]
    const features = (config: object) =>
      headFor('text-classification', { model_type: 'distilbert', ...config }, outputs).features
    expect(features({ dim: 12 })).toBe(12)
    expect(() => features({})).toThrow(/hidden_size/)
  })

  test.each([
    ['text-classification', { model_type: 'gpt2' }, /'gpt2'; a head can be added to albert, bert, camembert/],
    ['image-classification', { model_type: 'bert' }, /'bert'; a head can be added to deit, dinov2, vit/],
    ['text-classification', {}, /unknown/],
    ['text-classification', { model_type: 'deberta', pooler_hidden_act: 'relu' }, /'relu'; expected 'gelu'/],
  ] as const)('rejects %s with %o', (task, config, message) => {
    expect(() => headFor(task, config, [hidden])).toThrow(FourierFTError)
    expect(() => headFor(task, config, [hidden])).toThrow(message)
  })

  test.each([
    ['encoder.layer.0.attention.self.query', 'bert.encoder.layer.0.attention.self.query'],
    ['bert.encoder.layer.0.output.dense', 'bert.encoder.layer.0.output.dense'],
    ['model.0.auto_model.encoder.layer.0.output.dense', 'bert.encoder.layer.0.output.dense'],
    ['pooler.dense', 'bert.pooler.dense'],
    ['classifier', 'classifier'],
  ])('%s is %s in the model with a head', (module, expected) => {
    const head = headFor('text-classification', { model_type: 'bert' }, [hidden])
    expect(nameWithHead(head, module)).toBe(expected)
  })

  test.each([...ARCHITECTURES])('%s: the names of the head do not change', (modelType, { tasks }) => {
    for (const task of Object.keys(tasks) as HeadTask[]) {
      const head = headFor(task, { model_type: modelType }, [hidden])
      for (const module of headModules(head)) expect(nameWithHead(head, module)).toBe(module)
    }
  })
})

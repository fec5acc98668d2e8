/**
 * Writes the files that both sides of the benchmark `fine-tuning` read: MiniLM as a folder of transformers.js and as a folder of PyTorch, real mails in
 * JSONL, and the settings.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Tensor, writeSafetensors } from '@fourierft/core'
import { readMails } from '@fourierft/experiments/mails'
import { DataType, type OnnxGraph, readModel } from '@fourierft/onnx'

const root = (path: string) => fileURLToPath(new URL(`../../../${path}`, import.meta.url))
/** The build of the playground writes the configuration and the tokenizer. */
const PLAYGROUND = root('apps/playground/dist/models/minilm')
const CONFIGURATION = ['config.json', 'tokenizer.json', 'tokenizer_config.json'] as const
/** The names in the ONNX file begin with these. */
const TENSOR_PREFIX = 'model.0.auto_model.'
const NODE_PREFIX = '/model/model.0/auto_model/'

export interface MailCounts {
  readonly training: number
  readonly held: number
}

export interface Settings {
  readonly epochs: number
  readonly batchSize: number
  readonly maxLength: number
  readonly targetModules: readonly string[]
  readonly nFrequency: number
  readonly learningRate: number
  readonly headLearningRate: number
  readonly weightDecay: number
  readonly maxGradientNorm: number
  /** The part of all steps in which the rates rise. */
  readonly warmup: number
  readonly seed: number
  readonly labels: readonly string[]
  readonly lora: { readonly rank: number; readonly alpha: number; readonly learningRate: number }
}

/** @returns why the files cannot be written; undefined if they can */
export function missingFile(encoder: string | undefined): string | undefined {
  if (encoder === undefined)
    return 'the sentence encoder is missing; node packages/onnxruntime/scripts/minilm.js fetches it'
  return existsSync(PLAYGROUND)
    ? undefined
    : `${PLAYGROUND} is missing; the build of the playground writes it`
}

/**
 * Makes a temporary folder.
 *
 * @param encoder the path of the file that `scripts/minilm.js` fetches
 */
export async function writeFiles(encoder: string, counts: MailCounts, settings: Settings): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'fourierft-bench-'))
  mkdirSync(join(folder, 'minilm/onnx'), { recursive: true })
  for (const name of CONFIGURATION) copyFileSync(join(PLAYGROUND, name), join(folder, 'minilm', name))
  symlinkSync(encoder, join(folder, 'minilm/onnx/model.onnx'))
  mkdirSync(join(folder, 'pytorch'))
  copyFileSync(join(PLAYGROUND, 'config.json'), join(folder, 'pytorch/config.json'))
  const { graph } = readModel(readFileSync(encoder), { file: encoder })
  const weights = { tensors: pytorchTensors(graph), metadata: { format: 'pt' } }
  writeFileSync(join(folder, 'pytorch/model.safetensors'), writeSafetensors(weights))
  for (const [name, rows] of Object.entries(await readMails(root('.cache'), counts)))
    writeFileSync(
      join(folder, `${name}.jsonl`),
      (rows as readonly object[]).map((row) => `${JSON.stringify(row)}\n`).join(''),
    )
  writeFileSync(join(folder, 'settings.json'), JSON.stringify(settings))
  return folder
}

/** The encoder's weights with the names of PyTorch. Those of matrix products are transposed, and only the nodes have the names of modules. */
function pytorchTensors({ initializers, nodes }: OnnxGraph): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>()
  const add = (name: string, shape: readonly number[], bytes: Uint8Array) =>
    tensors.set(`bert.${name}`, { dtype: 'F32', shape, bytes })
  for (const [name, tensor] of initializers)
    if (name.startsWith(TENSOR_PREFIX) && tensor.dataType === DataType.float)
      add(name.slice(TENSOR_PREFIX.length), tensor.dims, tensor.data() as Uint8Array)
  for (const { opType, name, inputs } of nodes) {
    const weight = opType === 'MatMul' ? initializers.get(inputs[1] as string) : undefined
    if (!weight || !name.startsWith(NODE_PREFIX)) continue
    const [rows, columns] = weight.dims as [number, number]
    const module = name
      .slice(NODE_PREFIX.length)
      .replaceAll('/', '.')
      .replace(/\.MatMul$/, '')
    add(`${module}.weight`, [columns, rows], transposed(weight.data() as Uint8Array, rows, columns))
  }
  return tensors
}

/** Transposes a float32 matrix. */
function transposed(bytes: Uint8Array, rows: number, columns: number): Uint8Array {
  const values = new Float32Array(bytes.slice().buffer)
  const result = new Float32Array(values.length)
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      result[column * rows + row] = values[row * columns + column]
  return new Uint8Array(result.buffer)
}

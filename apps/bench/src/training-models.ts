/** The models of the training benchmark. `python/training_peer.py` exports each once; later runs find it in `.cache/bench-training`. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { FourierFTError } from '@fourierft/core'
import type { StepCosts } from './fresh-process.js'

export interface TrainedModel {
  /** `encoder`: BERT with a classifier of two classes. `decoder`: LLaMA with 16 000 words. */
  readonly kind: 'encoder' | 'decoder'
  readonly layers: number
  readonly width: number
  readonly rows: number
  readonly tokens: number
}

const SCRIPT = fileURLToPath(new URL('../python/training_peer.py', import.meta.url))
const PYTHON = process.env.FOURIERFT_PYTHON ?? 'python3'

/**
 * Returns the versions of PyTorch, PEFT and Transformers.
 *
 * @throws {FourierFTError} `UNSUPPORTED` if the Python in `FOURIERFT_PYTHON` (default: python3) does not have them
 */
export function peerVersions(): string {
  if (spawnSync(PYTHON, ['-c', 'import peft, torch, transformers, onnx']).status !== 0)
    throw new FourierFTError(
      'UNSUPPORTED',
      'the benchmark needs a Python with PEFT, Transformers and ONNX; set FOURIERFT_PYTHON to its path',
    )
  return runPython(['versions']).versions as string
}

/** Measures training steps with PEFT on PyTorch in a fresh process. */
export function peerSteps(method: 'FourierFT' | 'LoRA', model: TrainedModel, steps: number): StepCosts {
  const { rows, tokens } = model
  return runPython([method, ...flags({ ...sizeOf(model), rows, tokens, steps })]) as StepCosts
}

/** Exports a model, unless an earlier run has. @returns the path of the file */
export function exportedModel(model: TrainedModel): string {
  return once(nameOf(model), (path) => ['export', path, ...flags(sizeOf(model))])
}

/** The same with weights of 4 bits. */
export function quantisedModel(model: TrainedModel): string {
  const source = exportedModel(model)
  return once(`${nameOf(model)}-q4`, (path) => ['quantise', source, path])
}

const sizeOf = ({ kind, layers, width }: TrainedModel) => ({ model: kind, layers, width })

const nameOf = ({ kind, layers, width }: TrainedModel) => `${kind}-${layers}x${width}`

function once(name: string, argumentsFor: (path: string) => readonly string[]): string {
  const path = fileURLToPath(new URL(`../../../.cache/bench-training/${name}.onnx`, import.meta.url))
  if (existsSync(path)) return path
  mkdirSync(dirname(path), { recursive: true })
  const partial = `${path}.${process.pid}`
  runPython(argumentsFor(partial))
  renameSync(partial, path)
  return path
}

const flags = (options: Readonly<Record<string, string | number>>) =>
  Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])

interface Answer extends Partial<StepCosts> {
  readonly versions?: string
}

function runPython(args: readonly string[]): Answer {
  const { stdout, stderr, status } = spawnSync(PYTHON, [SCRIPT, ...args], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`python/training_peer.py ${args[0]} failed: ${stderr}`)
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as Answer
}

/**
 * Measures the peak memory of a training step of one layer on TensorFlow's binding. The operating system records the peak of a process, so each
 * case runs in a fresh process with this file as its program. Only Linux can reset the peak, which is necessary after TensorFlow has loaded.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { attach } from '@fourierft/tfjs'
import { createTfjsBackend } from '@fourierft/tfjs/conformance'
import * as tf from '@tensorflow/tfjs-core'
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { printSection, type RunLength } from './measure.js'

const CASES = ['frozen', 'FourierFT', 'LoRA'] as const
type Name = (typeof CASES)[number]

export function printPeakMemory(runLength: RunLength): void {
  printSection(
    'Peak memory of a training step',
    'additional memory of a process that has loaded TensorFlow, as a multiple of the frozen layer; goal: at most 1.1',
  )
  const sizes =
    runLength === 'quick' ? [[1024, 32]] : [1024, 4096].flatMap((d) => [32, 512].map((t) => [d, t]))
  for (const [d, tokens] of sizes) {
    const [frozen, ...others] = CASES.map((name) => median([0, 1, 2].map(() => peakOf(name, d, tokens))))
    const columns = others.map((bytes, i) => `${CASES[i + 1]} ${(bytes / frozen).toPrecision(3)}`)
    console.log(`  ${`${d}×${d}, T = ${tokens}`.padEnd(30)}${columns.join('   ')}`)
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]
}

function peakOf(name: Name, d: number, tokens: number): number {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ['--expose-gc', fileURLToPath(import.meta.url), name, String(d), String(tokens)],
    { encoding: 'utf8', env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: '2' } },
  )
  if (status !== 0) throw new Error(`the measurement of ${name} failed: ${stderr}`)
  return Number(stdout.trim().split('\n').at(-1))
}

/** Returns the peak memory of training steps in bytes, minus the memory of the process after TensorFlow has loaded and run once. */
async function measure(name: Name, d: number, tokens: number): Promise<number> {
  await createTfjsBackend('node')
  tf.tidy(() => tf.matMul(tf.ones([256, 256]), tf.ones([256, 256])).dataSync())
  global.gc?.()
  writeFileSync('/proc/self/clear_refs', '5') // resets the peak to the current resident size
  const before = peakBytes()
  const x = tf.randomNormal([tokens, d])
  const g = tf.randomNormal([tokens, d])
  const step = stepOf(name, d)
  for (let i = 0; i < 5; i++) {
    const results = step(x, g)
    for (const result of results) result.dataSync()
    tf.dispose(results)
  }
  return peakBytes() - before
}

/** Returns the peak of the resident memory of this process. */
function peakBytes(): number {
  const found = readFileSync('/proc/self/status', 'utf8').match(/^VmHWM:\s+(\d+) kB$/m)
  return Number(found?.[1]) * 1024
}

function stepOf(name: Name, d: number): (x: tf.Tensor, g: tf.Tensor) => tf.Tensor[] {
  if (name === 'FourierFT') {
    const model = sequential({ layers: [layers.dense({ name: 'linear', units: d, inputShape: [d] })] })
    const adapters = attach(model, { targetModules: ['linear'], nFrequency: 1000 })
    const c = adapters.coefficients('default', 'linear')
    return (x, g) => tf.grads((x, _c) => model.apply(x) as tf.Tensor)([x, c], g)
  }
  const w = tf.randomNormal([d, d])
  const bias = tf.zeros([d])
  const linear = (x: tf.Tensor) => tf.add(tf.matMul(x, w), bias)
  if (name === 'frozen') return (x, g) => tf.grads(linear)([x], g)
  const a = tf.randomNormal([d, 8])
  const b = tf.randomNormal([8, d])
  return (x, g) => tf.grads((x, a, b) => tf.add(linear(x), tf.matMul(tf.matMul(x, a), b)))([x, a, b], g)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [name, d, tokens] = process.argv.slice(2)
  console.log(await measure(name as Name, Number(d), Number(tokens)))
}

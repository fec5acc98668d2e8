/**
 * Prints digests of reference results and of entries as one line of JSON. It is bundled into one script and run by
 * JavaScript engines without a runtime, so it may use only ECMAScript and a way to print.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import { createLayer } from '../../src/adapter/layer.js'
import { bandPassEntries, bandPassMap } from '../../src/entries/band-pass.js'
import { entriesDigest } from '../../src/entries/digest.js'
import { MersenneTwister } from '../../src/entries/mersenne-twister.js'
import { uniformEntries } from '../../src/entries/uniform.js'
import { referenceBackward, referenceDelta, referenceForward } from '../../src/spectrum/reference.js'
import { unitCircle } from '../../src/spectrum/unit-circle.js'

/** Prints a line in `js102` and `jsc`; Node has `console.log`. */
declare const print: ((line: string) => void) | undefined

/** SHA-256 of the little-endian float64 bytes. */
function digest(values: Float64Array): string {
  const bytes = new Uint8Array(8 * values.length)
  const view = new DataView(bytes.buffer)
  values.forEach((value, i) => {
    view.setFloat64(8 * i, value, true)
  })
  return bytesToHex(sha256(bytes))
}

/** Numbers in `[−1, 1)` with 32 bits. */
function numbers(length: number, seed: number): Float64Array {
  const random = new MersenneTwister(seed)
  return Float64Array.from({ length }, () => random.nextUint32() / 2 ** 31 - 1)
}

const SHAPES = [
  [64, 64],
  [16, 60],
  [60, 16],
  [15, 21],
  [31, 37],
  [128, 32],
  [1, 1],
  [1, 50],
] as const

const BANDS = [
  { shape: [96, 96], n: 500, seed: 777, centerFrequency: 0 },
  { shape: [96, 96], n: 500, seed: 777, centerFrequency: 30, bandwidth: 10 },
  { shape: [45, 77], n: 300, seed: -5, centerFrequency: 12.5, bandwidth: 3 },
  { shape: [768, 768], n: 1000, seed: 2024, centerFrequency: 100 },
  { shape: [64, 300], n: 2000, seed: 2n ** 63n, centerFrequency: 200, bandwidth: 20 },
  { shape: [32, 32], n: 900, seed: 1, centerFrequency: 3, bandwidth: 2 },
] as const

const result: Record<string, string> = {}

for (const d of [1, 7, 768, 4093, 11008]) {
  const { cos, sin } = unitCircle(d)
  result[`unit circle ${d}`] = digest(Float64Array.of(...cos, ...sin))
}

for (const shape of SHAPES) {
  const [d1, d2] = shape
  const n = Math.min(40, d1 * d2)
  const entries = uniformEntries({ shape, n, seed: 777 })
  const layers = [11, 12].map((seed) =>
    createLayer({ name: `layer.${seed}`, shape, entries, coefficients: numbers(n, seed), scaling: 150.3 }),
  )
  const x = numbers(3 * d2, 13)
  const gradY = numbers(3 * d1, 14)
  const gradients = referenceBackward(layers, x, gradY)
  result[`delta ${shape}`] = layers.map((layer) => digest(referenceDelta(layer))).join(' ')
  result[`forward ${shape}`] = digest(referenceForward(layers, x, gradY))
  result[`backward ${shape}`] = [...gradients.coefficients, gradients.x].map(digest).join(' ')
}

result['uniform 768,3072'] = entriesDigest(uniformEntries({ shape: [768, 3072], n: 1000, seed: 777 }))
result['uniform 32768,131072 legacy'] = entriesDigest(
  uniformEntries({ shape: [32768, 131072], n: 1000, seed: 2n ** 64n - 1n, algorithm: 'legacy' }),
)

for (const band of BANDS) {
  const name = `${band.shape} f_c=${band.centerFrequency}`
  result[`band-pass ${name}`] = entriesDigest(bandPassEntries(band))
  result[`band-pass map ${name}`] = digest(bandPassMap(band))
}

const line = JSON.stringify(result)
if (typeof print === 'function') print(line)
else console.log(line)

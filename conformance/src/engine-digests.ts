/**
 * Digests of numbers that `core` computed in Node. A run in another JavaScript engine compares its own digests with them. They do not show
 * that the numbers are right; the vectors do.
 */
import { entriesDigest } from '@fourierft/core'

export const JAVASCRIPT_ENGINE_DIGESTS: {
  /** Arguments of `bandPassEntries` as JSON, with the `entriesDigest` of the result. */
  readonly bandPass: Readonly<Record<string, string>>
  /** The recipe of a layer as JSON, with `digestOfNumbers` of its `referenceDelta`. */
  readonly reference: Readonly<Record<string, string>>
} = {
  bandPass: {
    '{"shape":[64,96],"n":200,"seed":777,"centerFrequency":0,"bandwidth":200}':
      'e9a50278cad694eecd185a6f45fa99fe1ab0f9e6184e0b176829d888b74cf88d',
    '{"shape":[64,96],"n":200,"seed":1,"centerFrequency":20,"bandwidth":5}':
      'abeeb3f6c78e0ca00e069454527d1d879ab745d54201e203ebcff662bf5901b1',
    '{"shape":[31,37],"n":50,"seed":2024,"centerFrequency":8,"bandwidth":2.5}':
      'c697010b3c901eeb3a714ed389be2d6e393967bb2d4991e89d2a9fa0d5dc6fc4',
    '{"shape":[768,768],"n":1000,"seed":2024,"centerFrequency":100,"bandwidth":200}':
      '9a1eeb452a594c94cba5b06018e5598b433e6ae3311511daf144864ba569f0ac',
  },
  reference: {
    '{"shape":[17,23],"n":40,"seed":777,"coefficientsSeed":1,"scaling":150}':
      '3940693e5f659c6061ebb5574446dca81e8cd794971eeed99649f388d1f1c09f',
    '{"shape":[64,48],"n":100,"seed":2024,"coefficientsSeed":2,"scaling":300}':
      '288c78b9211fd49f650819bb5563b4e67da1701747da0fa98006fb43417571ff',
    '{"shape":[128,30],"n":60,"seed":1,"coefficientsSeed":3,"scaling":0.3}':
      '7d1e533792d2aeab76010864e4c2abfaab8819cba289f6fd2aba15e7f897b6e5',
  },
}

/** Returns the SHA-256 of the bits in hexadecimal: first all low words, then all high words, each little-endian. */
export function digestOfNumbers(numbers: Float64Array): string {
  const n = numbers.length
  const view = new DataView(new ArrayBuffer(8))
  const low = new Uint32Array(n)
  const high = new Uint32Array(n)
  for (let i = 0; i < n; i++) {
    view.setFloat64(0, numbers[i], true)
    low[i] = view.getUint32(0, true)
    high[i] = view.getUint32(4, true)
  }
  // `entriesDigest` hashes two arrays of 32-bit words.
  return entriesDigest({ n, rows: low, columns: high })
}

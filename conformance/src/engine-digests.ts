/**
 * What `core` computed on Node, so that a run in another JavaScript engine shows whether it computes the same. These are no oracle:
 * whether the numbers are right is judged by the vectors.
 */
export const ENGINE_DIGESTS: {
  /** Arguments of `bandPassEntries` as JSON → `entriesDigest`. */
  readonly bandPass: Readonly<Record<string, string>>
  /** A layer's recipe as JSON → SHA-256 of the float64 bits of `referenceDelta`. */
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
      '842debbd3e00513f33d820de4f9490c197384e654bda99060a3b8d030bf49587',
    '{"shape":[64,48],"n":100,"seed":2024,"coefficientsSeed":2,"scaling":300}':
      '52fe85bf126af4db2b4fdddd6dbe6244bdf4ffea2d8b81bd267822416a80d315',
    '{"shape":[128,30],"n":60,"seed":1,"coefficientsSeed":3,"scaling":0.3}':
      '9d10dfca005f96b07483a65bc8fcf76e6dcead46bc9b5f135b751b8e700ec2ef',
  },
}

/** SHA-256, in hexadecimal, of the little-endian bits. */
export async function sha256OfNumbers(numbers: Float64Array): Promise<string> {
  const bytes = new Uint8Array(8 * numbers.length)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < numbers.length; i++) view.setFloat64(8 * i, numbers[i] as number, true)
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

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
  bandPass: {},
  reference: {},
}

/** SHA-256, in hexadecimal, of the little-endian bits. */
export async function sha256OfNumbers(numbers: Float64Array): Promise<string> {
  const bytes = new Uint8Array(8 * numbers.length)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < numbers.length; i++) view.setFloat64(8 * i, numbers[i] as number, true)
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

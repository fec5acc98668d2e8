/** The digest of entries. Entries with the same positions in the same order have the same digest. */
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { Entries } from './entries.js'

/**
 * Returns the SHA-256, in hexadecimal, of the rows followed by the columns, each number a little-endian 32-bit integer.
 */
export function entriesDigest({ n, rows, columns }: Pick<Entries, 'n' | 'rows' | 'columns'>): string {
  const bytes = new Uint8Array(8 * n)
  const view = new DataView(bytes.buffer)
  for (let l = 0; l < n; l++) {
    view.setUint32(4 * l, rows[l], true)
    view.setUint32(4 * (n + l), columns[l], true)
  }
  return bytesToHex(sha256(bytes))
}

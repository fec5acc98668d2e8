/**
 * The mails of the encoder's page: real ones out of the SpamAssassin collection, of which the adapter's test has the token ids. `known` were
 * among those that the adapter was trained on and are what others are compared with; the others it has never seen.
 */

import { readFile } from 'node:fs/promises'
import type { Mail } from '../src/encoder/mail.js'
import { textOf } from './word-pieces.js'

interface PackedTexts {
  readonly shape: readonly [number, number]
  /** Base64 of little-endian uint16, padded with zeros. */
  readonly data: string
}

/** Of each kind. */
const counts = { known: 24, new: 40 } as const

/** Spam is what it is: mails with such words are not shown to every visitor, nor those in letters that the vocabulary does not have. */
const notForAll =
  /\[UNK\]|µ|±|\b(sex\w*|s e x|xxx|porn\w*|teens?|adults?|fuck\w*|viagra|blowjob|shite|ahole|ass|naked|barenaked|bang|gay|singles|dating|playboy)\b/

export async function readMails(vectors: string, pieces: readonly string[]): Promise<Mail[]> {
  const { mails } = JSON.parse(await readFile(vectors, 'utf8'))
  return (['known', 'new'] as const).flatMap((part) =>
    (['ham', 'spam'] as const).flatMap((kind) =>
      rowsOf(mails[part][kind])
        .map((ids) => textOf(ids, pieces))
        .filter((text) => !notForAll.test(text))
        .slice(0, counts[part])
        .map((text) => ({ text, isSpam: kind === 'spam', isKnown: part === 'known' })),
    ),
  )
}

function rowsOf({ shape: [count, width], data }: PackedTexts): Uint16Array[] {
  const bytes = Buffer.from(data, 'base64')
  const ids = Uint16Array.from({ length: count * width }, (_, i) => bytes.readUInt16LE(2 * i))
  return Array.from({ length: count }, (_, i) => ids.subarray(i * width, (i + 1) * width))
}

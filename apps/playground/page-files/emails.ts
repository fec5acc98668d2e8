/**
 * The emails of the encoder page: real emails from the SpamAssassin collection, stored as token ids in the fixtures of the adapter's test. The
 * adapter was trained on the `known` emails, not on the `new` ones.
 */
import { readFile } from 'node:fs/promises'
import type { Email } from '../src/encoder/email.js'
import { textOf } from './word-pieces.js'

interface PackedTexts {
  readonly shape: readonly [number, number]
  /** Base64 of little-endian uint16, padded with zeros. */
  readonly data: string
}

/** The number of emails of each kind. */
const counts = { known: 24, new: 40 } as const

/** Emails that are not shown: those with offensive words, and those with letters that are not in the vocabulary. */
const hidden =
  /\[UNK\]|µ|±|\b(sex\w*|s e x|xxx|porn\w*|teens?|adults?|fuck\w*|viagra|blowjob|shite|ahole|ass|naked|barenaked|bang|gay|singles|dating|playboy)\b/

export async function readEmails(vectors: string, pieces: readonly string[]): Promise<Email[]> {
  const { mails: emails } = JSON.parse(await readFile(vectors, 'utf8'))
  return (['known', 'new'] as const).flatMap((part) =>
    (['ham', 'spam'] as const).flatMap((kind) =>
      rowsOf(emails[part][kind])
        .map((ids) => textOf(ids, pieces))
        .filter((text) => !hidden.test(text))
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

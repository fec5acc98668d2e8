/** Reading of mails from a folder like that of the corpus. No test downloads it. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readMails } from './mails.js'

const cache = await mkdtemp(join(tmpdir(), 'mails-'))
afterAll(() => rm(cache, { recursive: true }))

const bodyOf = (kind: string, i: number) =>
  `This is mail number ${i} of the class ${kind}, and it is long enough.`

async function writeMail(folder: string, name: string, text: string): Promise<void> {
  const path = join(cache, 'spam-assassin-0.2.3', folder)
  await mkdir(path, { recursive: true })
  await writeFile(join(path, name), JSON.stringify({ id: name, text }))
}

beforeAll(async () => {
  for (const [folder, kind] of [
    ['easy-ham-1', 'ham'],
    ['easy-ham-2', 'ham'],
    ['hard-ham-1', 'ham'],
    ['spam-1', 'spam'],
    ['spam-2', 'spam'],
  ] as const)
    for (let i = 0; i < 6; i++) {
      const text = `From: someone@example.com\nSubject: [list] Hello ${folder}\nX-Spam: yes\n\n${bodyOf(folder, i)}\n<b>${kind}</b>`
      await writeMail(folder, `${i}.json`, text)
      await writeMail(folder, `${i}.txt`, text)
    }
  // The same text again, and a text that is too short.
  await writeMail('spam-2', '7.json', `Subject: [list] Hello spam-2\n\n${bodyOf('spam-2', 0)}\n<b>spam</b>`)
  await writeMail('spam-2', '8.json', 'Subject: short\n\nno')
})

test('reads subjects and texts, without other headers, names of lists and tags', async () => {
  const { training, held } = await readMails(cache, { training: 12, held: 8 })
  const all = [...held, ...training]
  expect(all.find(({ text }) => text.includes('spam-1'))).toEqual({
    text: expect.stringMatching(
      /^Hello spam-1\. This is mail number \d of the class spam-1, and it is long enough\. spam$/,
    ),
    label: 'spam',
  })
  for (const { text } of all) expect(text).not.toMatch(/example|X-Spam|\[list\]|<b>|short/)
})

test('half of the mails are spam, none is in both parts or twice, and the order is always the same', async () => {
  const options = { training: 12, held: 8 }
  const { training, held } = await readMails(cache, options)
  expect([training.length, held.length]).toEqual([12, 8])
  for (const part of [training, held])
    expect(part.filter(({ label }) => label === 'spam')).toHaveLength(part.length / 2)
  const texts = [...training, ...held].map(({ text }) => text)
  expect(new Set(texts).size).toBe(texts.length)
  expect(await readMails(cache, options)).toEqual({ training, held })
  // More mails for training do not change the held-out mails.
  expect((await readMails(cache, { training: 16, held: 8 })).held).toEqual(held)
})

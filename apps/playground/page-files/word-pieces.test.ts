import { readFile } from 'node:fs/promises'
import { BertTokenizer } from '@huggingface/transformers'
import { beforeAll, describe, expect, it } from 'vitest'
import { readPieces, textOf, tokenizerFiles } from './word-pieces.js'

const vectors = new URL(
  '../../../packages/onnxruntime/test/__fixtures__/minilm/vectors.json',
  import.meta.url,
)

describe('the vocabulary', () => {
  let pieces: readonly string[]
  let tokenizer: BertTokenizer

  beforeAll(async () => {
    pieces = await readPieces()
    const { 'tokenizer.json': json, 'tokenizer_config.json': config } = tokenizerFiles(pieces)
    tokenizer = new BertTokenizer(json, config)
  })

  it('is the vocabulary of BERT', () => {
    expect(pieces).toHaveLength(30522)
    // From vocab.txt of google-research/bert.
    for (const [id, piece] of [
      [0, '[PAD]'],
      [1, '[unused0]'],
      [100, '[UNK]'],
      [1996, 'the'],
      [2015, '##s'],
    ] as const)
      expect(pieces[id]).toBe(piece)
  })

  it('restores the token ids of Python’s tokenizer from the readable text', async () => {
    const { sentences } = JSON.parse(await readFile(vectors, 'utf8'))
    const [count, width] = sentences.shape
    const bytes = Buffer.from(sentences.data, 'base64')
    for (let row = 0; row < count; row++) {
      const padded = Array.from({ length: width }, (_, i) => bytes.readUInt16LE(2 * (row * width + i)))
      const ids = padded.filter((id) => id !== 0)
      expect(tokenizer.encode(textOf(ids, pieces))).toEqual(ids)
    }
  })

  it('restores the spacing of punctuation', () => {
    const read = (text: string) => textOf(tokenizer.encode(text), pieces)
    expect(read("It's 3.5% of $1,000: unaffordable!!! (a/b@c)")).toBe(
      "it's 3.5% of $1,000: unaffordable!!! (a/b@c)",
    )
  })
})

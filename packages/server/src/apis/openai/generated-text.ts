/** The text of a generation while its tokens arrive: whole characters only, and cut exactly before a stop string. */

interface Decoder {
  decode(ids: readonly bigint[], options: { skip_special_tokens: boolean }): string
}

/** As many tokens of the prompt are decoded with the first generated ones, because decoders treat the begin of a text differently. */
const PROMPT_TOKENS = 6

/** Turns tokens into text. A token whose bytes end within a character waits for the next ones. */
export class TokenText {
  readonly #decoder: Decoder
  readonly #ids: bigint[]
  /** The tokens from here on are decoded together; those before `#read` have been returned. */
  #start = 0
  #read: number

  constructor(decoder: Decoder, prompt: readonly bigint[]) {
    this.#decoder = decoder
    this.#ids = prompt.slice(-PROMPT_TOKENS)
    this.#read = this.#ids.length
  }

  /** Returns the text that has become certain. */
  push(id: bigint): string {
    this.#ids.push(id)
    const text = this.#rest()
    if (text === '' || text.endsWith('\ufffd')) return ''
    this.#start = this.#read
    this.#read = this.#ids.length
    return text
  }

  /** Returns the text of the tokens that were waiting. */
  end(): string {
    return this.#rest()
  }

  #rest(): string {
    const decode = (ids: bigint[]) => this.#decoder.decode(ids, { skip_special_tokens: true })
    const before = this.#read > this.#start ? decode(this.#ids.slice(this.#start, this.#read)) : ''
    const ids = this.#ids.slice(this.#start)
    return ids.length === 0 ? '' : decode(ids).slice(before.length)
  }
}

/** Ends a text before the first stop string. What may be the begin of a stop string waits. */
export class StopStrings {
  readonly #stops: readonly string[]
  #pending = ''
  /** True after a stop string was found. */
  found = false

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /** Returns the text that no later text can make a part of a stop string. */
  push(text: string): string {
    if (this.found) return ''
    this.#pending += text
    const places = this.#stops.map((stop) => this.#pending.indexOf(stop)).filter((place) => place >= 0)
    if (places.length > 0) {
      this.found = true
      return this.#pending.slice(0, Math.min(...places))
    }
    const certain = this.#pending.length - this.#possibleBegin()
    const safe = this.#pending.slice(0, certain)
    this.#pending = this.#pending.slice(certain)
    return safe
  }

  /** Returns the text that was waiting. */
  end(): string {
    return this.found ? '' : this.#pending
  }

  /** The length of the longest end of the pending text that is the begin of a stop string. */
  #possibleBegin(): number {
    let longest = 0
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, this.#pending.length); length > longest; length--) {
        if (this.#pending.endsWith(stop.slice(0, length))) longest = length
      }
    }
    return longest
  }
}

/** `eachRow`: tokenises rows one after the other, and lets the program handle events meanwhile. */
import { FourierFTError } from '@fourierft/core'

export interface EncodeOptions {
  readonly signal?: AbortSignal
  /** Is called after some of the rows. @param count the number of rows that have been encoded */
  readonly onProgress?: (count: number) => void
}

/** The program handles events after so many milliseconds. */
const PAUSE_AFTER = 30

/**
 * An abort throws the signal's reason.
 *
 * @throws {FourierFTError} `INVALID_OPTION` with the row, also for errors of the tokenizer
 */
export async function eachRow<Row, Encoded>(
  rows: readonly Row[],
  encode: (row: Row, position: number) => Encoded | Promise<Encoded>,
  { signal, onProgress }: EncodeOptions = {},
): Promise<Encoded[]> {
  signal?.throwIfAborted()
  const encoded: Encoded[] = []
  let pause = performance.now() + PAUSE_AFTER
  for (const [position, row] of rows.entries()) {
    try {
      encoded.push(await encode(row, position))
    } catch (cause) {
      throw FourierFTError.isInstance(cause) ? cause : notEncoded(position, cause)
    }
    if (performance.now() < pause) continue
    onProgress?.(encoded.length)
    await new Promise((resolve) => setTimeout(resolve))
    signal?.throwIfAborted()
    pause = performance.now() + PAUSE_AFTER
  }
  onProgress?.(encoded.length)
  return encoded
}

/** Some tokenizers overflow the stack on words of some hundred thousand letters. */
function notEncoded(position: number, cause: unknown): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `row ${position} (from 0): the tokenizer or the processor of the pipeline fails: ${(cause as Error).message}`,
    { row: position, option: 'data', cause },
  )
}

/** `eachRow`: tokenises rows one after the other, and lets the program handle events meanwhile. */

export interface EncodeOptions {
  readonly signal?: AbortSignal
  /** Is called after some of the rows. @param count the number of rows that have been encoded */
  readonly onProgress?: (count: number) => void
}

/** The program handles events after so many milliseconds. */
const PAUSE_AFTER = 30

/** An abort throws the signal's reason. */
export async function eachRow<Row, Encoded>(
  rows: readonly Row[],
  encode: (row: Row, position: number) => Encoded | Promise<Encoded>,
  { signal, onProgress }: EncodeOptions = {},
): Promise<Encoded[]> {
  signal?.throwIfAborted()
  const encoded: Encoded[] = []
  let pause = performance.now() + PAUSE_AFTER
  for (const [position, row] of rows.entries()) {
    encoded.push(await encode(row, position))
    if (performance.now() < pause) continue
    onProgress?.(encoded.length)
    await new Promise((resolve) => setTimeout(resolve))
    signal?.throwIfAborted()
    pause = performance.now() + PAUSE_AFTER
  }
  onProgress?.(encoded.length)
  return encoded
}

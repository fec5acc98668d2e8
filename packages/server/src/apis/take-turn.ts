/** `takeTurn`: lets the process do other work between long texts. Tokenisation is synchronous, so texts in a row would hold all other requests up. */

/** Characters that are tokenised without a pause: some milliseconds, half a second at worst. */
const TURN = 16_384

let spent = 0
let next: Promise<void> | undefined

/** Waits until a text can be tokenised. All requests share the turns; short texts do not wait. @throws the signal's reason if it is aborted */
export async function takeTurn(characters: number, signal: AbortSignal): Promise<void> {
  while (spent > 0 && spent + characters > TURN) await nextTurn()
  signal.throwIfAborted()
  spent += characters
  nextTurn()
}

function nextTurn(): Promise<void> {
  next ??= new Promise((resolve) => {
    setImmediate(() => {
      spent = 0
      next = undefined
      resolve()
    })
  })
  return next
}

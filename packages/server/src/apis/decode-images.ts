/** How many images are decoded in the whole process: a file of some kilobytes can have millions of pixels. */
import { ServerError } from '../errors.js'

/** Images that are being decoded at a time. */
const MOST_DECODING = 2
/** Pixels of all decoded images that wait for the model or are read by it. A pixel takes four bytes. */
const MOST_PIXELS = 2 ** 25

interface Waiting {
  readonly pixels: number
  begin(): void
}

let decoding = 0
let pixelsInUse = 0
const queue: Waiting[] = []

/**
 * Decodes an image, and works with it. Waits for other images first if they take too much memory together.
 *
 * @param pixels of the image, at most `MOST_PIXELS`
 * @throws the signal's reason if it is aborted while the image waits
 */
export async function decoded<Image, T>(
  pixels: number,
  signal: AbortSignal,
  { decode, work }: { decode(): Promise<Image>; work(image: Image): Promise<T> },
): Promise<T> {
  if (pixels > MOST_PIXELS)
    throw new ServerError('internal_error', 'the image has more pixels than the budget')
  await begin(pixels, signal)
  try {
    const image = await decode().finally(() => {
      decoding--
      beginNext()
    })
    return await work(image)
  } finally {
    pixelsInUse -= pixels
    beginNext()
  }
}

function begin(pixels: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  return new Promise((resolve, reject) => {
    const leave = () => {
      queue.splice(queue.indexOf(waiting), 1)
      reject(signal.reason)
      beginNext()
    }
    const waiting: Waiting = {
      pixels,
      begin() {
        signal.removeEventListener('abort', leave)
        resolve()
      },
    }
    signal.addEventListener('abort', leave, { once: true })
    queue.push(waiting)
    beginNext()
  })
}

/** In the order of their coming, so that a large image is not overtaken for ever. */
function beginNext(): void {
  for (let [first] = queue; first !== undefined; [first] = queue) {
    if (decoding >= MOST_DECODING || pixelsInUse + first.pixels > MOST_PIXELS) return
    queue.shift()
    decoding++
    pixelsInUse += first.pixels
    first.begin()
  }
}

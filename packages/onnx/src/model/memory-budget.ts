/**
 * What reading a file may cost. Objects take far more memory than the bytes that they are read from: two bytes are an empty field, which takes
 * a hundred as an object. Each kind of object is counted with what it takes, and a file whose parts are so many and so small that they would
 * take {@link MEMORY_FACTOR} times its size is refused before they are made. Exporters write names and weights, and stay far below that.
 */
import { invalidOnnx, type Where } from './invalid-onnx.js'

/** Reading, finding and attaching take at most so many times the size of a file, the file itself included. */
export const MEMORY_FACTOR = 12
/** Smaller files may take what a file of this size may. */
const SMALLEST_FILE = 10_000_000

/**
 * Bytes that an object of a model takes with all that is kept for it, such as entries of maps, and its share of what waits for the garbage
 * collector: measured with Node.js 20 on files of ten megabytes (`memory-budget.slow.test.ts` does so again).
 */
const COST = {
  field: 180,
  node: 1250,
  name: 160,
  tensor: 700,
  graph: 1900,
  layer: 3500,
  entry: 170,
  value: 300,
  attribute: 900,
  integer: 12,
} as const

export class MemoryBudget {
  readonly #size: number
  #left: number

  /** @param size of the file, in bytes */
  constructor(size: number) {
    this.#size = size
    this.#left = (MEMORY_FACTOR - 1) * Math.max(size, SMALLEST_FILE)
  }

  /** @throws FourierFTError INVALID_ONNX: so much is not left */
  take(kind: keyof typeof COST, count: number, where: Where): void {
    this.check(kind, count, where)
    this.#left -= COST[kind] * count
  }

  give(kind: keyof typeof COST, count: number): void {
    this.#left += COST[kind] * count
  }

  /** For objects that are not kept. @throws FourierFTError INVALID_ONNX: so much is not left */
  check(kind: keyof typeof COST, count: number, where: Where): void {
    if (COST[kind] * count > this.#left)
      throw invalidOnnx(
        where,
        `its parts are so many and so small that reading them would take more than ${MEMORY_FACTOR} times the memory of the file, which has ${this.#size} bytes; no exporter writes such files`,
      )
  }
}

/**
 * Limits the memory for reading a file. Objects need far more memory than the bytes they are read from: an empty field is two bytes in the
 * file and over a hundred as an object. Each kind of object has a cost, and a file whose objects would need more than
 * {@link MEMORY_FACTOR} times its size is rejected before they are created. The files of exporters, with their names and weights, need far
 * less.
 */
import { invalidOnnx, type Where } from './invalid-onnx.js'

/** Reading, finding and attaching need at most this many times the size of a file, including the file itself. */
export const MEMORY_FACTOR = 12
/** Smaller files have the budget of a file of this size, in bytes. */
const SMALLEST_FILE = 10_000_000

/**
 * The bytes that an object needs, with its entries in maps and its share of the garbage that is not collected yet. Measured with Node.js 20
 * on files of ten megabytes; `memory-budget.slow.test.ts` repeats the measurement.
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
  attribute: 1500,
  integer: 12,
} as const

export class MemoryBudget {
  readonly #size: number
  #left: number

  /** @param size the size of the file in bytes */
  constructor(size: number) {
    this.#size = size
    this.#left = (MEMORY_FACTOR - 1) * Math.max(size, SMALLEST_FILE)
  }

  /** Takes the cost of objects from the budget. @throws {FourierFTError} `INVALID_ONNX` if the budget is too small */
  take(kind: keyof typeof COST, count: number, where: Where): void {
    this.check(kind, count, where)
    this.#left -= COST[kind] * count
  }

  /** Gives back the cost of objects that are released. */
  give(kind: keyof typeof COST, count: number): void {
    this.#left += COST[kind] * count
  }

  /** Checks the cost of temporary objects. @throws {FourierFTError} `INVALID_ONNX` if the budget is too small */
  check(kind: keyof typeof COST, count: number, where: Where): void {
    if (COST[kind] * count > this.#left)
      throw invalidOnnx(
        where,
        `its many small parts would need more than ${MEMORY_FACTOR} times the file's size of ${this.#size} bytes (no exporter writes such files)`,
      )
  }
}

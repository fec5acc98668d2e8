/** One adapted linear layer. */
import type { Entries, Shape } from '../entries/entries.js'
import { FourierFTError } from '../errors.js'

/** The arrays of real numbers that the fast paths read and write. */
export type FloatArray = Float32Array | Float64Array

/** One adapted linear layer: shape, entries, coefficients and scaling, which together define its ΔW. `createLayer` checks and freezes it. */
export interface Layer {
  /** Module name as in the adapter file, without `base_model.model.` and `.fourierft_spectrum`. */
  readonly name: string
  /** `[d1, d2]` = `[out, in]`, the orientation of PyTorch's `Linear`. */
  readonly shape: Shape
  readonly entries: Entries
  /** The `n` trained coefficients `c`; `coefficients[l]` belongs to `(rows[l], columns[l])`. */
  readonly coefficients: FloatArray
  /**
   * `α`, in the convention where ΔW = α · Re(IDFT2(F)) and the IDFT carries `1/(d1·d2)` (PEFT's `scaling`).
   */
  readonly scaling: number
}

/**
 * Checks that the parts fit together, and makes a layer. `entries` and `coefficients` are not copied, because layers of one shape share
 * their entries, and a trainer writes into the coefficients.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for an empty name, `SHAPE_MISMATCH` if the entries have another shape or the number of
 *   coefficients differs from that of the entries, `NOT_FINITE` for a coefficient or a scaling that is NaN or infinite
 */
export function createLayer({ name, shape, entries, coefficients, scaling }: Layer): Layer {
  if (typeof name !== 'string' || name === '') {
    throw new FourierFTError('INVALID_OPTION', 'name: expected the name of a module; received nothing', {
      option: 'name',
      expected: 'a non-empty string',
      received: name,
    })
  }
  const [d1, d2] = shape
  if (shape.length !== 2 || entries.shape[0] !== d1 || entries.shape[1] !== d2) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `layer '${name}': expected entries of shape [${shape.join(', ')}], the shape of its weight; received [${entries.shape.join(', ')}]`,
      {
        advice: 'make entries for the shape [out, in] of the weight',
        module: name,
        expected: shape,
        received: entries.shape,
      },
    )
  }
  if (!(coefficients instanceof Float32Array || coefficients instanceof Float64Array)) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `layer '${name}': expected coefficients in a Float32Array or Float64Array`,
      { module: name, option: 'coefficients', expected: ['Float32Array', 'Float64Array'] },
    )
  }
  if (coefficients.length !== entries.n) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `layer '${name}': expected ${entries.n} coefficients, one for each entry; received ${coefficients.length}`,
      { module: name, expected: entries.n, received: coefficients.length },
    )
  }
  const invalidIndex = coefficients.findIndex((c) => !Number.isFinite(c))
  if (invalidIndex >= 0) {
    throw new FourierFTError(
      'NOT_FINITE',
      `layer '${name}': coefficient ${invalidIndex} is ${coefficients[invalidIndex]}; expected finite numbers`,
      { module: name, option: `coefficients[${invalidIndex}]`, received: coefficients[invalidIndex] },
    )
  }
  if (!Number.isFinite(scaling)) {
    throw new FourierFTError(
      'NOT_FINITE',
      `layer '${name}': scaling is ${scaling}; expected a finite number`,
      { module: name, option: 'scaling', received: scaling },
    )
  }
  return Object.freeze({ name, shape: [d1, d2] as const, entries, coefficients, scaling })
}

/** One adapted linear layer, complete: all that is needed to compute its ΔW. */
import type { Entries, Shape } from '../entries/entries.js'

/** Arrays of real numbers that the fast paths read and write. */
export type FloatArray = Float32Array | Float64Array

export interface Layer {
  /** Module name as in the adapter file, without `base_model.model.` and `.fourierft_spectrum`. */
  readonly name: string
  /** `[d1, d2]` = `[out, in]`, the orientation of PyTorch's `Linear`. */
  readonly shape: Shape
  readonly entries: Entries
  /** The `n` trained coefficients `c`; `coefficients[l]` belongs to `(rows[l], columns[l])`. */
  readonly coefficients: FloatArray
  /** `α`, in the convention where ΔW = α · Re(IDFT2(F)) and the IDFT carries `1/(d1·d2)` (PEFT's `scaling`). */
  readonly scaling: number
}

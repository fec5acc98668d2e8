/** How one call applies layers. */

/**
 * How an adapter is applied: `merge` adds ΔW to the weight once; `dense` forms ΔW for each change of the coefficients; `factored`
 * multiplies by cosine and sine bases and never forms ΔW; `spectral` uses FFTs of the activations and never forms ΔW; `native`
 * runs the kernel of `@fourierft/native`.
 */
export type Strategy = 'merge' | 'dense' | 'factored' | 'spectral' | 'native'

export interface ApplyOptions {
  /** Default: `auto`, chosen from `(T, d1, d2, n)`. `merge` is not an option of a call, because it changes the weight. */
  readonly strategy?: Exclude<Strategy, 'merge'> | 'auto'
  /** The index in `layers` of the one layer for each of the T rows of `x`; −1 means no layer. Default: the sum of all layers. */
  readonly rows?: Int32Array
}

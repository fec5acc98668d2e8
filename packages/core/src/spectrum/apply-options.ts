/** How one call applies layers. */

/**
 * How an adapter is applied: `merge` adds ΔW to the weight once; `dense` forms ΔW for each change of the coefficients; `factored`
 * multiplies by cosine and sine bases and never forms ΔW; `spectral` transforms the activations; `native` does so in compiled code.
 */
export type Strategy = 'merge' | 'dense' | 'factored' | 'spectral' | 'native'

export interface ApplyOptions {
  /** Default: `auto`, chosen from `(T, d1, d2, n)`. `merge` is no option of a call: it changes the weight. */
  readonly strategy?: Exclude<Strategy, 'merge'> | 'auto'
  /** For each of the T rows of `x` the index of its one layer in `layers`, or −1 for none. Default: all layers, added. */
  readonly rows?: Int32Array
}

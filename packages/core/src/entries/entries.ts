/**
 * Entries `E`: the `n` positions `(j, k)` of a `[d1, d2]` spectrum that hold a trained coefficient. Code
 * that applies an adapter reads only `rows` and `columns`, not the recipe.
 */

/** The shape `[d1, d2]` = `[out, in]` of a layer and of its spectrum; both at least 1. */
export type Shape = readonly [d1: number, d2: number]

/** How entries were chosen. Adapter files record it, so that a reader can draw the same entries again. */
export type EntriesRecipe =
  | {
      /** `torch.randperm(d1·d2, generator=seed)[:n]`, as for PEFT's `random_loc_seed`. */
      readonly sampler: 'uniform'
      readonly seed: number | bigint
      readonly n: number
      /** `legacy`: the 32-bit algorithm of older PyTorch for every size. It makes no difference below 214748364 positions. */
      readonly algorithm?: 'legacy'
    }
  | {
      /** Equation 5 of the paper: weights `exp(−((D² − f_c²)/(D·W))²)`. */
      readonly sampler: 'bandpass'
      readonly seed: number | bigint
      readonly n: number
      readonly centerFrequency: number
      readonly bandwidth: number
    }
  | { readonly sampler: 'explicit' }

/** `n` distinct positions `(j, k)` of a `[d1, d2]` spectrum, in the order of their coefficients, and the recipe that chose them. */
export interface Entries {
  readonly shape: Shape
  /** Number of entries: the length of `rows` and of `columns`. */
  readonly n: number
  /** `j_l`, frequencies along the output dimension, each in `[0, d1)`. */
  readonly rows: Uint32Array
  /** `k_l`, frequencies along the input dimension, each in `[0, d2)`. */
  readonly columns: Uint32Array
  readonly recipe: EntriesRecipe
}

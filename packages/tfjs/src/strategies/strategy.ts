/** The names of the strategies, and the sizes that decide which one is fastest. */
import type { Shape } from '@fourierft/core'

/** The strategies of `fourierLinear`. */
export type TfjsStrategy = 'dense' | 'factored' | 'spectral' | 'native'

/** One layer and its input. */
export interface LinearSize {
  readonly tokens: number
  /** `[d1, d2]` = `[out, in]` */
  readonly shape: Shape
  /** Entries of the adapter. */
  readonly n: number
}

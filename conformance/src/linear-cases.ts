/**
 * The linear layers of levels 4 and 5, with inputs generated from seeds. Weights and adapters are of similar size, so that an error of the
 * adapters is visible in the output.
 */
import type { Layer, Shape } from '@fourierft/core'
import type { AdaptedLinear, ApplyOptions, Backend, Strategy } from '@fourierft/core/conformance'
import type { LevelContext } from './level.js'
import { layerOf } from './reference-oracle.js'
import { seededValues } from './seeded-values.js'
import type { LayerSpec, LinearVector } from './vectors.js'

export interface LinearCase {
  readonly name: string
  readonly weight: Float32Array
  readonly bias: Float32Array | null
  readonly layers: readonly Layer[]
  /** `[T, d2]` */
  readonly x: Float32Array
  /** `[T, d1]` */
  readonly gradY: Float32Array
  readonly rows?: Int32Array
}

/** Generates the weight, inputs and layers of a vector or another description. */
export function makeLinearCase(
  vector: Pick<LinearVector, 'name' | 'layers' | 'tokens' | 'bias' | 'rows' | 'seed'>,
): LinearCase {
  const { name, tokens, seed } = vector
  const [d1, d2] = vector.layers[0]?.shape ?? [0, 0]
  return {
    name,
    weight: seededValues(seed, d1 * d2, 1 / 4),
    bias: vector.bias ? seededValues(seed + 1, d1) : null,
    layers: vector.layers.map((spec, index) => layerOf(spec, `layer${index}`)),
    x: seededValues(seed + 2, tokens * d2),
    gradY: seededValues(seed + 3, tokens * d1),
    ...(vector.rows && { rows: Int32Array.from(vector.rows) }),
  }
}

/** Numbers of tokens. Quick runs omit the last one. */
export const TOKENS = [1, 7, 32, 512]

/** Generates wide, tall, square, prime and power-of-two layers, and two layers of real models. */
export function* linearCases({ tokens, quick }: { tokens: number; quick: boolean }): Generator<LinearCase> {
  let seed = 7000
  const specs = (shape: Shape, counts: readonly number[], sameEntries = false): LayerSpec[] =>
    counts.map((n, index) => ({
      shape,
      n,
      seed: sameEntries ? 777 : 777 + index,
      coefficientsSeed: 7500 + index,
      scaling: 150,
    }))
  const make = (
    description: string,
    layers: readonly LayerSpec[],
    { bias = true, rows = null }: { bias?: boolean; rows?: readonly number[] | null } = {},
  ): LinearCase => {
    seed += 10
    const name = `T = ${tokens}, [${layers[0]?.shape.join(', ')}], ${description}`
    return makeLinearCase({ name, layers, tokens, bias, rows, seed })
  }
  yield make('bias', specs([48, 80], [100]))
  yield make('no bias', specs([96, 36], [60]), { bias: false })
  yield make('square', specs([64, 64], [120]))
  yield make('prime', specs([31, 37], [50]))
  yield make('three adapters, added', specs([48, 80], [100, 100, 40]))
  const mixed = Array.from({ length: tokens }, (_, t) => [0, 2, 1, -1, 2][t % 5] ?? -1)
  yield make('an adapter for each row, shared entries', specs([48, 80], [70, 70, 70], true), { rows: mixed })
  yield make('an adapter for each row, different entries', specs([36, 40], [50, 30, 50]), { rows: mixed })
  if (!quick && tokens === 7) yield make('real size', specs([768, 768], [1000]))
  if (!quick && tokens === 32) yield make('real size', specs([3072, 768], [1000]))
}

export type ApplyStrategy = NonNullable<ApplyOptions['strategy']>

const STRATEGIES: readonly Exclude<Strategy, 'merge'>[] = ['dense', 'factored', 'spectral']

/** Returns `auto` and every strategy that the backend offers, and records each other strategy as a gap. */
export function selectStrategies({ backend, skip }: LevelContext): ApplyStrategy[] {
  const offered = STRATEGIES.filter((strategy) => backend.strategies.includes(strategy))
  const missing = STRATEGIES.filter((strategy) => !backend.strategies.includes(strategy))
  for (const strategy of missing) skip(strategy, 'the backend does not offer this strategy')
  return ['auto', ...offered]
}

/** Passes an adapted layer to `use`, and disposes of it afterwards. */
export async function withLinear<Result>(
  backend: Backend,
  { weight, bias, layers }: Pick<LinearCase, 'weight' | 'bias' | 'layers'>,
  use: (linear: AdaptedLinear) => Promise<Result>,
): Promise<Result> {
  const linear = await backend.linear(weight, bias, layers)
  try {
    return await use(linear)
  } finally {
    await linear.dispose()
  }
}

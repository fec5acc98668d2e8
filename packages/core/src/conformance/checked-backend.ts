/**
 * Makes a backend from plain functions. `checkedBackend` checks every argument and the state of every layer, throws the documented error
 * codes, and calls the functions only if all arguments are valid.
 */
import { createLayer, type FloatArray, type Layer } from '../adapter/layer.js'
import type { Shape } from '../entries/entries.js'
import { FourierFTError, invalidState } from '../errors.js'
import type { ApplyOptions } from '../spectrum/apply-options.js'
import { shapeMismatch } from '../spectrum/shape-mismatch.js'
import type { AdaptedLinear, Backend, LinearGradients } from './backend.js'

/** The base layer. The arrays are copies, so the functions may keep them. */
export interface BaseLayer {
  /** `[d1, d2]` row-major. */
  readonly weight: Float32Array
  /** `[d1]` */
  readonly bias: Float32Array | null
  readonly shape: Shape
}

/** The options of a call, after the checks. */
export interface CheckedOptions extends ApplyOptions {
  /** T, the number of rows of `x`. */
  readonly tokens: number
  readonly strategy: NonNullable<ApplyOptions['strategy']>
}

/** `AdaptedLinear` without checks. */
export interface LinearFunctions {
  forward(x: Float32Array, options: CheckedOptions): FloatArray | Promise<FloatArray>
  backward(
    x: Float32Array,
    gradY: Float32Array,
    options: CheckedOptions,
  ): LinearGradients | Promise<LinearGradients>
  /** @param layers copies of the layers, with the new coefficients */
  setCoefficients(layers: readonly Layer[]): void | Promise<void>
  disable(): void | Promise<void>
  enable(): void | Promise<void>
  /** `merge` and `unmerge` are absent if `strategies` does not include `merge`. */
  merge?(): void | Promise<void>
  unmerge?(): void | Promise<void>
  weight(): FloatArray | Promise<FloatArray>
  dispose(): void | Promise<void>
}

/** `Backend` without checks. */
export interface BackendFunctions
  extends Pick<
    Backend,
    'name' | 'device' | 'versions' | 'strategies' | 'trainable' | 'roundTrip' | 'resources'
  > {
  /**
   * The checks that the runtime makes. `checkedBackend` omits them, so that level 8 tests the errors of the runtime. `strategy`: unknown
   * strategies. `merged`: a second merge, and rows while merged.
   */
  readonly runtimeChecks?: readonly ('strategy' | 'merged')[]
  delta(layer: Layer): FloatArray | Promise<FloatArray>
  linear(base: BaseLayer, layers: readonly Layer[]): LinearFunctions | Promise<LinearFunctions>
  /** Frees the resources of the backend itself, after its layers are disposed. */
  dispose?(): void | Promise<void>
}

/**
 * Wraps functions without checks.
 *
 * @returns a backend that rejects with `SHAPE_MISMATCH` for lengths and shapes that do not fit, `NOT_FINITE` for NaN or infinite
 *   coefficients, `INVALID_OPTION` for rows without a layer, `UNSUPPORTED` for a strategy that it does not offer, and `INVALID_STATE` for
 *   a layer that is disposed, merged or not merged; a rejected call changes nothing
 */
export function checkedBackend(functions: BackendFunctions): Backend {
  const { runtimeChecks = [], ...properties } = functions
  const live = new Set<AdaptedLinear>()
  const rules: Rules = {
    strategies: runtimeChecks.includes('strategy') ? undefined : functions.strategies,
    merges: functions.strategies.includes('merge'),
    checksMerged: !runtimeChecks.includes('merged'),
  }
  return {
    ...properties,
    delta: async (layer) => functions.delta(createLayer(layer)),
    async linear(weight, bias, layers) {
      const shape = checkShapes(weight, bias, layers)
      const copies = layers.map((layer) => withCoefficients(layer, layer.coefficients))
      const base = { weight: weight.slice(), bias: bias === null ? null : bias.slice(), shape }
      const linear = checkedLinear(await functions.linear(base, copies), shape, copies, rules, () =>
        live.delete(linear),
      )
      live.add(linear)
      return linear
    },
    async dispose() {
      for (const linear of live) await linear.dispose()
      await functions.dispose?.()
    },
  }
}

interface Rules {
  /** The strategies of the backend; undefined if the runtime checks them. */
  readonly strategies: Backend['strategies'] | undefined
  readonly merges: boolean
  readonly checksMerged: boolean
}

function checkedLinear(
  functions: LinearFunctions,
  [d1, d2]: Shape,
  layers: readonly Layer[],
  { strategies, merges, checksMerged }: Rules,
  onDispose: () => void,
): AdaptedLinear {
  let isMerged = false
  let isDisposed = false

  function checkAlive(): void {
    if (isDisposed) throw invalidState('the layer was disposed', 'make a new one with linear()')
  }

  function checkUnmerged(): void {
    if (isMerged) throw invalidState('the layer is merged', 'call unmerge() first')
  }

  function checkMergeOffered(): void {
    checkAlive()
    if (!merges) throw new FourierFTError('UNSUPPORTED', 'this backend does not offer the strategy merge')
  }

  function checkOptions(x: Float32Array, { strategy = 'auto', rows }: ApplyOptions): CheckedOptions {
    checkAlive()
    if (x.length % d2 !== 0) throw shapeMismatch('x', `whole rows of d2 = ${d2} numbers`, x.length)
    const tokens = x.length / d2
    if (strategies !== undefined) checkStrategy(strategy, strategies)
    if (rows === undefined) return { tokens, strategy }
    if (checksMerged) checkUnmerged()
    checkRows(rows, tokens, layers.length)
    return { tokens, strategy, rows }
  }

  return {
    async forward(x, options = {}) {
      return functions.forward(x, checkOptions(x, options))
    },
    async backward(x, gradY, options = {}) {
      const checked = checkOptions(x, options)
      const { tokens } = checked
      if (gradY.length !== tokens * d1) {
        throw shapeMismatch('gradY', `T·d1 = ${tokens}·${d1} = ${tokens * d1} numbers`, gradY.length)
      }
      return functions.backward(x, gradY, checked)
    },
    async setCoefficients(coefficients) {
      checkAlive()
      checkUnmerged()
      if (coefficients.length !== layers.length) {
        throw shapeMismatch(
          'coefficients',
          `one array for each of ${layers.length} layers`,
          coefficients.length,
        )
      }
      await functions.setCoefficients(layers.map((layer, i) => withCoefficients(layer, coefficients[i])))
    },
    async disable() {
      checkAlive()
      await functions.disable()
    },
    async enable() {
      checkAlive()
      await functions.enable()
    },
    async merge() {
      checkMergeOffered()
      if (checksMerged) checkUnmerged()
      await functions.merge?.()
      isMerged = true
    },
    async unmerge() {
      checkMergeOffered()
      if (!isMerged) throw invalidState('the layer is not merged', 'call merge() first')
      await functions.unmerge?.()
      isMerged = false
    },
    async weight() {
      checkAlive()
      return functions.weight()
    },
    async dispose() {
      checkAlive()
      isDisposed = true
      await functions.dispose()
      onDispose()
    },
  }
}

function withCoefficients(layer: Layer, coefficients: FloatArray): Layer {
  return createLayer({ ...layer, coefficients: coefficients.slice() })
}

function checkShapes(weight: Float32Array, bias: Float32Array | null, layers: readonly Layer[]): Shape {
  const [d1, d2] = layers[0]?.shape ?? shapeOfFrozen(weight, bias)
  for (const { name, shape } of layers) {
    if (shape[0] !== d1 || shape[1] !== d2) {
      throw shapeMismatch(
        `shape of module ${name}`,
        `[${d1}, ${d2}], as the first layer's`,
        `[${shape.join(', ')}]`,
      )
    }
  }
  if (weight.length !== d1 * d2) {
    throw shapeMismatch('weight', `d1·d2 = ${d1}·${d2} = ${d1 * d2} numbers`, weight.length)
  }
  if (bias !== null && bias.length !== d1) {
    throw shapeMismatch('bias', `d1 = ${d1} numbers, or null`, bias.length)
  }
  return [d1, d2]
}

/** Returns the shape of a layer without adapters, from the length of its bias. */
function shapeOfFrozen(weight: Float32Array, bias: Float32Array | null): Shape {
  if (bias !== null && bias.length > 0) return [bias.length, Math.floor(weight.length / bias.length)]
  throw new FourierFTError(
    'INVALID_OPTION',
    'layers: expected at least one layer, or a bias whose length is d1; received neither',
    { option: 'layers', expected: 'at least one layer, or a bias', received: [] },
  )
}

function checkStrategy(strategy: CheckedOptions['strategy'], strategies: Backend['strategies']): void {
  const expected = ['auto', ...strategies.filter((offered) => offered !== 'merge')]
  if (expected.includes(strategy)) return
  throw new FourierFTError(
    'UNSUPPORTED',
    `strategy: expected ${expected.join(' or ')}; received ${strategy}`,
    { option: 'strategy', expected, received: strategy },
  )
}

function checkRows(rows: Int32Array, tokens: number, layers: number): void {
  if (rows.length !== tokens) {
    throw shapeMismatch('rows', `one index for each of ${tokens} rows of x`, rows.length)
  }
  const unknown = rows.find((row) => row < -1 || row >= layers)
  if (unknown === undefined) return
  const expected = `-1 … ${layers - 1}`
  throw new FourierFTError('INVALID_OPTION', `rows: expected ${expected}; received ${unknown}`, {
    option: 'rows',
    expected,
    received: unknown,
  })
}

/**
 * AdamW over coefficient vectors. Each step is that of `torch.optim.AdamW`, so training gives the same coefficients as in PEFT, within rounding.
 * The optimiser knows neither layers nor models: it updates vectors in place. PyTorch's options `amsgrad` and `maximize` do not exist here,
 * because FourierFT does not use them.
 */
import * as v from 'valibot'
import type { FloatArray } from '../adapter/layer.js'
import { FourierFTError } from '../errors.js'
import { rejectNonFinite } from './reject-non-finite.js'

export interface AdamWOptions {
  /** Learning rate `η`, at least 0. Default: 1e-3. */
  readonly learningRate?: number
  /** `[β₁, β₂]`, the decay of the first and the second moment, both in `[0, 1)`. Default: `[0.9, 0.999]`. */
  readonly betas?: readonly [number, number]
  /** `ε`, added to the root of the second moment; above 0. Default: 1e-8. */
  readonly epsilon?: number
  /** `λ`, decoupled: each step first multiplies the parameters by `1 − η·λ`. At least 0. Default: 0.01, as in PyTorch. */
  readonly weightDecay?: number
}

/** Everything that the next step needs, apart from the parameters. It is plain JSON: `JSON.stringify` keeps every number exactly. */
export type AdamWState = v.InferOutput<typeof stateSchema>

export interface AdamW {
  readonly options: Required<AdamWOptions>
  /** Number of steps so far. */
  readonly steps: number
  /**
   * Updates all `parameters` in place. The first call fixes the number of vectors, and the length and the precision of each. As in
   * PyTorch, the moments have the precision of their vector.
   *
   * @param parameters the vectors to change
   * @param gradients `∂L/∂parameter`, one for each vector, of the same length; not changed
   * @param learningRate `η` of this step, for schedules. Default: the option `learningRate`
   * @throws {FourierFTError} `SHAPE_MISMATCH` if the number of vectors or a length differs from the first step, `UNSUPPORTED_DTYPE` if a
   * precision does, `NOT_FINITE` for a gradient with NaN or infinity, `INVALID_OPTION` for a negative or non-finite learning rate. Nothing
   * is changed after an error.
   */
  step(parameters: readonly FloatArray[], gradients: readonly FloatArray[], learningRate?: number): void
  toState(): AdamWState
}

interface Moments {
  /** `m`, the running mean of the gradient. */
  readonly first: FloatArray
  /** `v`, the running mean of its square. */
  readonly second: FloatArray
}

const nonNegative = v.pipe(v.number(), v.finite(), v.minValue(0))
const beta = v.pipe(v.number(), v.minValue(0), v.ltValue(1))

const optionsSchema = v.strictObject({
  learningRate: v.optional(nonNegative, 1e-3),
  betas: v.optional(v.tuple([beta, beta]), [0.9, 0.999]),
  epsilon: v.optional(v.pipe(v.number(), v.finite(), v.gtValue(0)), 1e-8),
  weightDecay: v.optional(nonNegative, 0.01),
})

const momentsSchema = v.pipe(
  v.strictObject({
    precision: v.picklist(['float32', 'float64']),
    first: v.array(v.pipe(v.number(), v.finite())),
    second: v.array(nonNegative),
  }),
  v.check(({ first, second }) => first.length === second.length, 'first and second differ in length'),
)

const stateSchema = v.strictObject({
  version: v.literal(1),
  options: v.required(optionsSchema),
  steps: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  vectors: v.array(momentsSchema),
})

/**
 * Creates an optimiser.
 *
 * @see Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2; `torch.optim.AdamW`
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function createAdamW(options: AdamWOptions = {}): AdamW {
  return makeAdamW(check(optionsSchema, options, 'AdamW options'), 0, undefined)
}

/**
 * Restores the optimiser from the result of `toState`. Its next step gives the same bits as the next step of the original.
 *
 * @throws {FourierFTError} `INVALID_OPTION` that names the first invalid field
 */
export function restoreAdamW(state: unknown): AdamW {
  const { options, steps, vectors } = check(stateSchema, state, 'AdamW state')
  const moments = vectors.map(({ precision, first, second }) => {
    const FloatArray = precision === 'float32' ? Float32Array : Float64Array
    return { first: FloatArray.from(first), second: FloatArray.from(second) }
  })
  return makeAdamW(options, steps, steps === 0 ? undefined : moments)
}

function makeAdamW(
  options: Required<AdamWOptions>,
  initialSteps: number,
  restored: readonly Moments[] | undefined,
): AdamW {
  let steps = initialSteps
  let moments = restored

  return {
    options,
    get steps() {
      return steps
    },
    step(parameters, gradients, learningRate = options.learningRate) {
      check(nonNegative, learningRate, 'learningRate')
      checkVectors(parameters, gradients, moments)
      moments ??= parameters.map(zeroMoments)
      steps += 1
      for (const [index, { first, second }] of moments.entries()) {
        const parameter = parameters[index]
        const gradient = gradients[index]
        if (parameter && gradient) update(parameter, gradient, first, second, steps, learningRate, options)
      }
    },
    toState() {
      const vectors = (moments ?? []).map(({ first, second }) => ({
        precision: precisionOf(first),
        first: Array.from(first),
        second: Array.from(second),
      }))
      return { version: 1, options: { ...options, betas: [...options.betas] }, steps, vectors }
    },
  }
}

/** Updates one vector, in the order of PyTorch's `_single_tensor_adam`: decay, moments, bias corrections, `ε` outside the root. */
function update(
  parameter: FloatArray,
  gradient: FloatArray,
  first: FloatArray,
  second: FloatArray,
  step: number,
  learningRate: number,
  { betas: [beta1, beta2], epsilon, weightDecay }: Required<AdamWOptions>,
): void {
  const decay = 1 - learningRate * weightDecay
  const stepSize = learningRate / (1 - beta1 ** step)
  const secondScale = Math.sqrt(1 - beta2 ** step)
  for (let i = 0; i < parameter.length; i++) {
    const g = gradient[i]
    const m = first[i] + (1 - beta1) * (g - first[i])
    const s = beta2 * second[i] + (1 - beta2) * g * g
    first[i] = m
    second[i] = s
    parameter[i] = decay * parameter[i] - stepSize * (m / (Math.sqrt(s) / secondScale + epsilon))
  }
}

const SAME_VECTORS = 'pass the same vectors, in the same order, in every step'

function checkVectors(
  parameters: readonly FloatArray[],
  gradients: readonly FloatArray[],
  moments: readonly Moments[] | undefined,
): void {
  const expected = moments?.length ?? parameters.length
  if (parameters.length !== expected || gradients.length !== expected) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `AdamW.step: expected ${expected} parameter vectors and as many gradients; received ${parameters.length} and ${gradients.length}`,
      { advice: SAME_VECTORS, expected, received: [parameters.length, gradients.length] },
    )
  }
  for (const [index, parameter] of parameters.entries()) {
    const gradient = gradients[index]
    const length = moments?.[index]?.first.length ?? parameter.length
    if (parameter.length !== length || gradient?.length !== length) {
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `AdamW.step: vector ${index}: expected ${length} parameters and as many gradients; received ${parameter.length} and ${gradient?.length}`,
        { advice: SAME_VECTORS, expected: length, received: [parameter.length, gradient?.length] },
      )
    }
    const precision = precisionOf(moments?.[index]?.first ?? parameter)
    if (precisionOf(parameter) !== precision) {
      throw new FourierFTError(
        'UNSUPPORTED_DTYPE',
        `AdamW.step: vector ${index}: expected ${precision}, as in the first step; received ${precisionOf(parameter)}`,
        { advice: SAME_VECTORS, expected: precision, received: precisionOf(parameter) },
      )
    }
    rejectNonFinite(gradient, `AdamW.step: gradient ${index}`)
  }
}

function zeroMoments(parameter: FloatArray): Moments {
  const FloatArray = parameter instanceof Float32Array ? Float32Array : Float64Array
  return { first: new FloatArray(parameter.length), second: new FloatArray(parameter.length) }
}

function precisionOf(vector: FloatArray): 'float32' | 'float64' {
  return vector instanceof Float32Array ? 'float32' : 'float64'
}

function check<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  name: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value, { abortEarly: true })
  if (result.success) return result.output
  const [issue] = result.issues
  const path = v.getDotPath(issue)
  const location = path === null ? name : `${name}, ${path}`
  throw new FourierFTError('INVALID_OPTION', `${location}: ${issue.message}`, {
    option: path ?? name,
    received: issue.input,
    ...(issue.expected === null ? {} : { expected: issue.expected }),
  })
}

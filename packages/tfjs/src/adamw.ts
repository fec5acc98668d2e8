/**
 * The optimizer AdamW, which TensorFlow.js lacks: `torch.optim.AdamW` as a `tf.Optimizer`, with the options of `createAdamW` in
 * `@fourierft/core`.
 *
 * The optimizers of TensorFlow.js keep their moments by position in the list of trained variables. Here, as in PyTorch, the moments and
 * the number of steps belong to a variable, so one optimizer can train several adapters in turn. Only moments that `setWeights` restored
 * have to be matched to variables, which happens at the next step.
 */
import { type AdamWOptions, createAdamW, FourierFTError } from '@fourierft/core'
import {
  add,
  dispose,
  div,
  engine,
  keep,
  mul,
  type NamedTensorMap,
  Optimizer,
  serialization,
  sqrt,
  square,
  sub,
  type Tensor,
  tensor1d,
  tidy,
  type Variable,
  variable,
  zerosLike,
} from '@tensorflow/tfjs-core'

/** TensorFlow.js does not export this type. */
type NamedTensor = Awaited<ReturnType<Optimizer['getWeights']>>[number]

interface Moments {
  /** Undefined for moments that `setWeights` restored, until they are matched. */
  owner: Variable | undefined
  /** Steps of this variable so far. */
  steps: number
  /** `m`, running mean of the gradient. */
  readonly first: Variable
  /** `v`, running mean of its square. */
  readonly second: Variable
}

interface Update {
  readonly name: string
  readonly value: Variable
  readonly gradient: Tensor
}

/**
 * An optimizer for `model.compile({ optimizer })`, `minimize` and `applyGradients`. On a GPU that computes in float16, pass an `epsilon` that float16
 * can hold, such as 1e-4: PyTorch's default becomes 0.
 *
 * @see Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2; `torch.optim.AdamW`
 */
export class AdamW extends Optimizer {
  static get className(): string {
    return 'AdamW'
  }

  readonly #options: Required<AdamWOptions>
  #learningRate: number
  readonly #moments = new Map<string, Moments>()
  /** The tensors `iter` and `steps` that `getWeights` returned last. The next call frees them, so that saving a model leaks nothing. */
  #counts: readonly Tensor[] = []

  /**
   * @param options those of PyTorch, with the same defaults: learningRate 1e-3, betas [0.9, 0.999], epsilon 1e-8, weightDecay 0.01
   * @throws FourierFTError `INVALID_OPTION` naming the option
   */
  constructor(options: AdamWOptions = {}) {
    super()
    this.#options = createAdamW(options).options
    this.#learningRate = this.#options.learningRate
  }

  /** `η` of the next step; set it before each one to follow a schedule. */
  get learningRate(): number {
    return this.#learningRate
  }

  /** @throws FourierFTError `INVALID_OPTION` for a rate that is negative or not finite */
  set learningRate(rate: number) {
    if (!Number.isFinite(rate) || rate < 0) {
      throw new FourierFTError(
        'INVALID_OPTION',
        `AdamW: learningRate: expected a finite number of at least 0; received ${rate}`,
        { option: 'learningRate', received: rate },
      )
    }
    this.#learningRate = rate
  }

  /**
   * Makes one step with every variable that has a gradient. The caller keeps ownership of the gradients.
   *
   * @throws FourierFTError `INVALID_OPTION` for a name that no variable has, `SHAPE_MISMATCH` if a gradient and its variable differ in
   *   shape, `INVALID_STATE` if restored moments do not fit the variables; nothing is changed then
   */
  applyGradients(gradients: NamedTensorMap | NamedTensor[]): void {
    const updates = checkUpdates(gradients)
    this.#forgetDisposed()
    this.#matchRestored(updates)
    for (const update of updates) this.#update(update)
    this.incrementIterations()
  }

  /** Frees the moments. The options and the count of `iterations` stay. */
  override dispose(): void {
    for (const name of [...this.#moments.keys()]) this.#forget(name)
    dispose([...this.#counts])
    this.#counts = []
  }

  /**
   * Returns the state of the optimizer, without its options: `iter`, `steps` (one number for each variable), the first moments `<variable>/m`,
   * the second moments `<variable>/v`. The optimizer owns the tensors: training changes the moments, and the next call frees the two
   * counts.
   */
  override async getWeights(): Promise<NamedTensor[]> {
    this.#forgetDisposed()
    const named = [...this.#moments]
    const stepCounts = named.map(([, moments]) => moments.steps)
    const iterations = await this.saveIterations()
    const steps = { name: 'steps', tensor: tensor1d(stepCounts, 'int32') }
    dispose([...this.#counts])
    this.#counts = [keep(iterations.tensor), keep(steps.tensor)]
    return [
      iterations,
      steps,
      ...named.map(([name, { first }]) => ({ name: `${name}/m`, tensor: first })),
      ...named.map(([name, { second }]) => ({ name: `${name}/v`, tensor: second })),
    ]
  }

  /**
   * Restores the result of `getWeights`, so that training continues with the same numbers. The next step matches moments to variables:
   * by name if there are moments of all names; otherwise by order, because TensorFlow.js adds a number to a name that is already in use.
   *
   * @param weights the caller keeps ownership of them
   * @throws FourierFTError `INVALID_OPTION` for the weights of another optimizer; nothing is changed then
   */
  override async setWeights(weights: NamedTensor[]): Promise<void> {
    const [iterations, steps, ...tensors] = weights
    const count = tensors.length / 2
    const fits =
      iterations?.name === 'iter' &&
      steps?.name === 'steps' &&
      steps.tensor.size === count &&
      tensors.slice(0, count).every((first, i) => isPair(first, tensors[count + i]))
    if (!fits) {
      throw new FourierFTError(
        'INVALID_OPTION',
        "AdamW.setWeights: expected the result of AdamW.getWeights ('iter', 'steps', '<variable>/m' …, '<variable>/v' …); received " +
          `[${weights.map(({ name }) => `'${name}'`).join(', ')}]`,
        { option: 'weights', received: weights.map(({ name }) => name) },
      )
    }
    const counts = await steps.tensor.data()
    await this.extractIterations(weights)
    const restored = Array.from(counts, (stepCount, i): [string, Moments] => {
      const [first, second] = [tensors[i], tensors[count + i]]
      return [
        first.name.slice(0, -'/m'.length),
        {
          owner: undefined,
          steps: stepCount,
          first: variable(first.tensor, false),
          second: variable(second.tensor, false),
        },
      ]
    })
    // After the copies, because the weights may belong to this optimizer.
    this.dispose()
    for (const [name, moments] of restored) this.#moments.set(name, moments)
  }

  getConfig(): serialization.ConfigDict {
    const {
      betas: [beta1, beta2],
      epsilon,
      weightDecay,
    } = this.#options
    return { learningRate: this.#learningRate, beta1, beta2, epsilon, weightDecay }
  }

  static override fromConfig<T extends serialization.Serializable>(
    cls: serialization.SerializableConstructor<T>,
    { learningRate, beta1, beta2, epsilon, weightDecay }: serialization.ConfigDict,
  ): T {
    return new cls({ learningRate, betas: [beta1, beta2], epsilon, weightDecay })
  }

  /** Updates one variable, with the order of operations of PyTorch's `_single_tensor_adam`: decay, moments, bias corrections, `ε` outside the root. */
  #update({ name, value, gradient }: Update): void {
    const moments = this.#momentsOf(name, value)
    const {
      betas: [beta1, beta2],
      epsilon,
      weightDecay,
    } = this.#options
    moments.steps += 1
    const decay = 1 - this.#learningRate * weightDecay
    const stepSize = this.#learningRate / (1 - beta1 ** moments.steps)
    const secondScale = Math.sqrt(1 - beta2 ** moments.steps)
    tidy(() => {
      const first = add(moments.first, mul(sub(gradient, moments.first), 1 - beta1))
      const second = add(mul(moments.second, beta2), mul(square(gradient), 1 - beta2))
      const denominator = add(div(sqrt(second), secondScale), epsilon)
      moments.first.assign(first)
      moments.second.assign(second)
      value.assign(sub(mul(value, decay), mul(div(first, denominator), stepSize)))
    })
  }

  #momentsOf(name: string, value: Variable): Moments {
    const existing = this.#moments.get(name)
    if (existing) return existing
    const zeros = () => tidy(() => variable(zerosLike(value), false))
    const moments = { owner: value, steps: 0, first: zeros(), second: zeros() }
    this.#moments.set(name, moments)
    return moments
  }

  /** Matches restored moments to variables, as `setWeights` describes. */
  #matchRestored(updates: readonly Update[]): void {
    const saved = [...this.#moments]
    if (!saved.some(([, { owner }]) => owner === undefined)) return
    const isUnmatched = saved.every(([, { owner }]) => owner === undefined)
    const isByOrder = isUnmatched && updates.some(({ name }) => !this.#moments.has(name))
    const pairs = updates.map((update, i) => ({
      ...update,
      moments: isByOrder ? saved[i]?.[1] : this.#moments.get(update.name),
    }))
    const fits = pairs.every(
      ({ value, moments }) => moments === undefined || isSameShape(moments.first, value),
    )
    if (!fits || (isByOrder && saved.length !== updates.length)) {
      throw new FourierFTError(
        'INVALID_STATE',
        `AdamW: the restored moments of [${saved.map(([name]) => `'${name}'`).join(', ')}] fit the variables ` +
          `[${updates.map(({ name }) => `'${name}'`).join(', ')}] neither by name and shape nor by number and order`,
        {
          advice: 'train the variables that they were saved with, or make a new optimizer',
          expected: saved.map(([name]) => name),
          received: updates.map(({ name }) => name),
        },
      )
    }
    if (isByOrder) this.#moments.clear()
    for (const { name, value, moments } of pairs) {
      if (moments === undefined) continue
      moments.owner = value
      this.#moments.set(name, moments)
    }
  }

  /** Frees the moments of disposed variables: a new variable may have the same name. */
  #forgetDisposed(): void {
    for (const [name, { owner }] of [...this.#moments]) {
      if (owner && engine().registeredVariables[name] !== owner) this.#forget(name)
    }
  }

  #forget(name: string): void {
    const moments = this.#moments.get(name)
    moments?.first.dispose()
    moments?.second.dispose()
    this.#moments.delete(name)
  }
}

serialization.registerClass(AdamW)

/** Returns the updates to make. Skips variables without a gradient, as PyTorch and TensorFlow.js do. */
function checkUpdates(gradients: NamedTensorMap | NamedTensor[]): Update[] {
  const named: readonly (readonly [string, Tensor | null | undefined])[] = Array.isArray(gradients)
    ? gradients.map(({ name, tensor }) => [name, tensor])
    : Object.entries(gradients)
  return named.flatMap(([name, gradient]) => {
    if (!gradient) return []
    const value: Variable | undefined = engine().registeredVariables[name]
    if (value === undefined) {
      throw new FourierFTError('INVALID_OPTION', `AdamW.applyGradients: there is no variable '${name}'`, {
        option: 'gradients',
        tensor: name,
      })
    }
    if (!isSameShape(gradient, value)) {
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `AdamW.applyGradients: '${name}': expected a gradient of shape [${value.shape}]; received [${gradient.shape}]`,
        { tensor: name, expected: value.shape, received: gradient.shape },
      )
    }
    return [{ name, value, gradient }]
  })
}

function isPair(first: NamedTensor, second: NamedTensor | undefined): boolean {
  const fits = first.name.endsWith('/m') && second?.name === first.name.replace(/m$/, 'v')
  return fits && isSameShape(first.tensor, second.tensor)
}

function isSameShape(a: Tensor | undefined, b: Tensor): boolean {
  return a?.shape.length === b.shape.length && b.shape.every((length, axis) => a.shape[axis] === length)
}

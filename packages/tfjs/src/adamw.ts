/**
 * AdamW for TensorFlow.js, which has none: `torch.optim.AdamW` as a `tf.Optimizer`, with the options of `createAdamW` in
 * `@fourierft/core`.
 *
 * TensorFlow.js's own optimizers keep their moments by position in the list of trained variables. Here they belong to the variable
 * itself, and so does the number of its steps, as in PyTorch: one optimizer can train several adapters in turn. Only moments that
 * `setWeights` restored have to be matched to variables, at the first step after it.
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

/** TensorFlow.js has this type and does not export it from its root. */
type NamedTensor = Awaited<ReturnType<Optimizer['getWeights']>>[number]

interface Moments {
  /** Undefined: restored by `setWeights`, and not yet matched. */
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
 * For `model.compile({ optimizer })`, `minimize` and `applyGradients`. Where a GPU computes in float16, pass an `epsilon` that it can
 * hold, such as 1e-4: PyTorch's default is 0 there.
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
  /** `iter` and `steps` as `getWeights` handed them out last: held, so that saving a model leaks nothing. */
  #counts: readonly Tensor[] = []

  /**
   * @param options PyTorch's: learningRate 1e-3, betas [0.9, 0.999], epsilon 1e-8, weightDecay 0.01
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

  /** @throws FourierFTError `INVALID_OPTION` for a rate that is negative or no finite number */
  set learningRate(rate: number) {
    if (!Number.isFinite(rate) || rate < 0) {
      throw new FourierFTError(
        'INVALID_OPTION',
        `AdamW, learningRate: expected a finite number of at least 0, received ${rate}`,
        { option: 'learningRate', received: rate },
      )
    }
    this.#learningRate = rate
  }

  /**
   * One step of every variable that has a gradient. The gradients stay the caller's.
   *
   * @throws FourierFTError `INVALID_OPTION` for a name that no variable has, `SHAPE_MISMATCH` for a gradient of another shape than its
   * variable, `INVALID_STATE` when restored moments do not fit the variables. Nothing is changed then.
   */
  applyGradients(gradients: NamedTensorMap | NamedTensor[]): void {
    const updates = checkedUpdates(gradients)
    this.#forgetDisposed()
    this.#matchRestored(updates)
    for (const update of updates) this.#update(update)
    this.incrementIterations()
  }

  /** Frees the moments. The options stay, and so does the count of `iterations`. */
  override dispose(): void {
    for (const name of [...this.#moments.keys()]) this.#forget(name)
    dispose([...this.#counts])
    this.#counts = []
  }

  /**
   * All that the next step depends on besides the variables and the options: `iter`, `steps` (one number for each variable), the first
   * moments `<variable>/m`, the second moments `<variable>/v`. The tensors stay this object's; the moments move on with the training,
   * the two counts last until the next call.
   */
  override async getWeights(): Promise<NamedTensor[]> {
    this.#forgetDisposed()
    const named = [...this.#moments]
    const taken = named.map(([, moments]) => moments.steps)
    const iterations = await this.saveIterations()
    const steps = { name: 'steps', tensor: tensor1d(taken, 'int32') }
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
   * Goes on from what `getWeights` gave; the next step gives the same numbers. The first step matches moments to variables: by name if
   * all of its variables have moments of their names; else in their order, for TensorFlow.js numbers a name that is taken.
   *
   * @param weights stay the caller's
   * @throws FourierFTError `INVALID_OPTION` for weights of another optimizer; nothing is changed then
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
        "AdamW.setWeights: expected what AdamW.getWeights gives ('iter', 'steps', '<variable>/m' …, '<variable>/v' …), received " +
          `[${weights.map(({ name }) => `'${name}'`).join(', ')}]`,
        { option: 'weights', received: weights.map(({ name }) => name) },
      )
    }
    const counts = await steps.tensor.data()
    await this.extractIterations(weights)
    const restored = Array.from(counts, (taken, i): [string, Moments] => {
      const [first, second] = [tensors[i], tensors[count + i]]
      return [
        first.name.slice(0, -'/m'.length),
        {
          owner: undefined,
          steps: taken,
          first: variable(first.tensor, false),
          second: variable(second.tensor, false),
        },
      ]
    })
    // Not before: the weights may be this optimizer's own.
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

  /** The order of operations is PyTorch's `_single_tensor_adam`: decay, moments, bias corrections, `ε` outside the root. */
  #update({ name, value, gradient }: Update): void {
    const moments = this.#momentsOf(name, value)
    const {
      betas: [beta1, beta2],
      epsilon,
      weightDecay,
    } = this.#options
    moments.steps += 1
    const kept = 1 - this.#learningRate * weightDecay
    const stepSize = this.#learningRate / (1 - beta1 ** moments.steps)
    const secondScale = Math.sqrt(1 - beta2 ** moments.steps)
    tidy(() => {
      const first = add(moments.first, mul(sub(gradient, moments.first), 1 - beta1))
      const second = add(mul(moments.second, beta2), mul(square(gradient), 1 - beta2))
      const denominator = add(div(sqrt(second), secondScale), epsilon)
      moments.first.assign(first)
      moments.second.assign(second)
      value.assign(sub(mul(value, kept), mul(div(first, denominator), stepSize)))
    })
  }

  #momentsOf(name: string, value: Variable): Moments {
    const known = this.#moments.get(name)
    if (known) return known
    const zeros = () => tidy(() => variable(zerosLike(value), false))
    const moments = { owner: value, steps: 0, first: zeros(), second: zeros() }
    this.#moments.set(name, moments)
    return moments
  }

  /** Gives restored moments their variables, see `setWeights`. */
  #matchRestored(updates: readonly Update[]): void {
    const saved = [...this.#moments]
    if (!saved.some(([, { owner }]) => owner === undefined)) return
    const untouched = saved.every(([, { owner }]) => owner === undefined)
    const inOrder = untouched && updates.some(({ name }) => !this.#moments.has(name))
    const pairs = updates.map((update, i) => ({
      ...update,
      moments: inOrder ? saved[i]?.[1] : this.#moments.get(update.name),
    }))
    const fits = pairs.every(({ value, moments }) => moments === undefined || sameShape(moments.first, value))
    if (!fits || (inOrder && saved.length !== updates.length)) {
      throw new FourierFTError(
        'INVALID_STATE',
        `AdamW: the restored moments of [${saved.map(([name]) => `'${name}'`).join(', ')}] fit the variables ` +
          `[${updates.map(({ name }) => `'${name}'`).join(', ')}] neither by name and shape nor by number and order; train the ` +
          'variables that they were saved with, or make a new optimizer',
        { expected: saved.map(([name]) => name), received: updates.map(({ name }) => name) },
      )
    }
    if (inOrder) this.#moments.clear()
    for (const { name, value, moments } of pairs) {
      if (moments === undefined) continue
      moments.owner = value
      this.#moments.set(name, moments)
    }
  }

  /** A variable that is gone needs no moments; another one may have its name by now. */
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

/** Variables without a gradient are left out, as in PyTorch and in TensorFlow.js. */
function checkedUpdates(gradients: NamedTensorMap | NamedTensor[]): Update[] {
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
    if (!sameShape(gradient, value)) {
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `AdamW.applyGradients: '${name}': expected a gradient of shape [${value.shape}], received [${gradient.shape}]`,
        { tensor: name, expected: value.shape, received: gradient.shape },
      )
    }
    return [{ name, value, gradient }]
  })
}

function isPair(first: NamedTensor, second: NamedTensor | undefined): boolean {
  const fits = first.name.endsWith('/m') && second?.name === first.name.replace(/m$/, 'v')
  return fits && sameShape(first.tensor, second.tensor)
}

function sameShape(a: Tensor | undefined, b: Tensor): boolean {
  return a?.shape.length === b.shape.length && b.shape.every((length, axis) => a.shape[axis] === length)
}

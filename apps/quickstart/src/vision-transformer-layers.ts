/**
 * Layers of a vision transformer that TensorFlow.js lacks, or that are too slow there (`LayerNorm`). None of them is linear: query, key, value and
 * the other linear layers are ordinary `Dense` layers, so that adapters find them.
 */
import * as tf from '@tensorflow/tfjs-core'
import { initializers, type LayerVariable, layers, type Shape } from '@tensorflow/tfjs-layers'

type LayerArguments = ConstructorParameters<typeof layers.Layer>[0]

const oneTensor = (inputs: tf.Tensor | tf.Tensor[]): tf.Tensor => {
  const [input] = Array.isArray(inputs) ? inputs : [inputs]
  if (input === undefined) throw new Error('a layer was called without an input')
  return input
}

const oneShape = (shape: Shape | Shape[]): Shape => (Array.isArray(shape[0]) ? shape[0] : (shape as Shape))

/** Cuts images `[B, s, s]` into patches `[B, (s/p)², p²]` in the order of a convolution with stride `p`. */
export class Patches extends layers.Layer {
  static className = 'Patches'
  readonly #size: number

  constructor(config: LayerArguments & { patchSize: number }) {
    super(config)
    this.#size = config.patchSize
  }

  override computeOutputShape(shape: Shape | Shape[]): Shape {
    const [batch = null, rows, columns] = oneShape(shape)
    return [batch, ((rows ?? 0) / this.#size) * ((columns ?? 0) / this.#size), this.#size ** 2]
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const images = oneTensor(inputs)
      const [batch = 0, rows = 0, columns = 0] = images.shape
      const [down, across, size] = [rows / this.#size, columns / this.#size, this.#size]
      const grid = tf.reshape(images, [batch, down, size, across, size])
      return tf.reshape(tf.transpose(grid, [0, 1, 3, 2, 4]), [batch, down * across, size * size])
    })
  }

  override getConfig(): tf.serialization.ConfigDict {
    return { ...super.getConfig(), patchSize: this.#size }
  }
}

/** Puts the class token in front of the patches and adds the position embeddings: `[B, T, d]` → `[B, T + 1, d]`. */
export class Embeddings extends layers.Layer {
  static className = 'Embeddings'
  #classToken: LayerVariable | undefined
  #positions: LayerVariable | undefined

  override build(shape: Shape | Shape[]): void {
    const [, tokens, size] = oneShape(shape)
    const initializer = initializers.randomNormal({ mean: 0, stddev: 0.02, seed: 1 })
    this.#classToken = this.addWeight('cls_token', [1, 1, size ?? 0], 'float32', initializer)
    this.#positions = this.addWeight(
      'position_embeddings',
      [1, (tokens ?? 0) + 1, size ?? 0],
      'float32',
      initializer,
    )
    this.built = true
  }

  override computeOutputShape(shape: Shape | Shape[]): Shape {
    const [batch = null, tokens, size = null] = oneShape(shape)
    return [batch, (tokens ?? 0) + 1, size]
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      if (this.#classToken === undefined || this.#positions === undefined) throw new Error('not built')
      const patches = oneTensor(inputs) as tf.Tensor3D
      const token = this.#classToken.read() as tf.Tensor3D
      const first = tf.mul(tf.ones([patches.shape[0], 1, 1]), token) as tf.Tensor3D
      return tf.add(tf.concat([first, patches], 1), this.#positions.read())
    })
  }
}

/**
 * Layer normalisation of the last axis, `γ·(x − mean)/√(variance + ε) + β`. TensorFlow.js's own layer tiles mean, variance,
 * γ and β to the shape of `x`. The gradient of `tile` is a sum of slices, one for each copy, and would take most of the time of a training step.
 */
export class LayerNorm extends layers.Layer {
  static className = 'LayerNorm'
  readonly #epsilon: number
  #gamma: LayerVariable | undefined
  #beta: LayerVariable | undefined

  constructor(config: LayerArguments & { epsilon: number }) {
    super(config)
    this.#epsilon = config.epsilon
  }

  override build(shape: Shape | Shape[]): void {
    const size = oneShape(shape).at(-1) ?? 0
    this.#gamma = this.addWeight('gamma', [size], 'float32', initializers.ones())
    this.#beta = this.addWeight('beta', [size], 'float32', initializers.zeros())
    this.built = true
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      if (this.#gamma === undefined || this.#beta === undefined) throw new Error('not built')
      const x = oneTensor(inputs)
      const centred = tf.sub(x, tf.mean(x, -1, true))
      const variance = tf.mean(tf.square(centred), -1, true)
      const normal = tf.mul(centred, tf.rsqrt(tf.add(variance, this.#epsilon)))
      return tf.add(tf.mul(normal, this.#gamma.read()), this.#beta.read())
    })
  }

  override getConfig(): tf.serialization.ConfigDict {
    return { ...super.getConfig(), epsilon: this.#epsilon }
  }
}

/** `softmax(q·kᵀ/√(d/h))·v` for each of `h` heads, from three `[B, T, d]` to one. It has no weights. */
export class Attention extends layers.Layer {
  static className = 'Attention'
  readonly #heads: number

  constructor(config: LayerArguments & { heads: number }) {
    super(config)
    this.#heads = config.heads
  }

  override computeOutputShape(shapes: Shape | Shape[]): Shape {
    return oneShape(shapes)
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const [query, key, value] = inputs as tf.Tensor[]
      if (query === undefined || key === undefined || value === undefined)
        throw new Error('attention needs q, k, v')
      const [batch = 0, tokens = 0, size = 0] = query.shape
      const split = [batch, tokens, this.#heads, size / this.#heads]
      const heads = (x: tf.Tensor, order: number[]) => tf.transpose(tf.reshape(x, split), order)
      const scores = tf.matMul(heads(query, [0, 2, 1, 3]), heads(key, [0, 2, 3, 1]))
      const weights = tf.softmax(tf.mul(scores, 1 / Math.sqrt(size / this.#heads)))
      const mixed = tf.matMul(weights, heads(value, [0, 2, 1, 3]))
      return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [batch, tokens, size])
    })
  }

  override getConfig(): tf.serialization.ConfigDict {
    return { ...super.getConfig(), heads: this.#heads }
  }
}

/** Takes the features of the class token for the classifier: `[B, T, d]` → `[B, d]`. */
export class ClassToken extends layers.Layer {
  static className = 'ClassToken'

  override computeOutputShape(shape: Shape | Shape[]): Shape {
    const [batch = null, , size = null] = oneShape(shape)
    return [batch, size]
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const tokens = oneTensor(inputs) as tf.Tensor3D
      const [batch, , size] = tokens.shape
      return tf.reshape(tf.slice(tokens, [0, 0, 0], [batch, 1, size]), [batch, size])
    })
  }
}

for (const layer of [Patches, Embeddings, LayerNorm, Attention, ClassToken])
  tf.serialization.registerClass(layer)

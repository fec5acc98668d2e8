/** Makes the data of figure 7: points in the plane, in a Gaussian cloud around the centre of each class. */
import * as tf from '@tensorflow/tfjs-core'

export interface ClusterOptions {
  readonly classes: number
  readonly pointsPerClass: number
  /** The radius of the circle on which the centres are, equally spaced. */
  readonly radius: number
  /** The standard deviation of each coordinate around its centre. */
  readonly deviation: number
  readonly seed: number
}

export interface Clusters {
  readonly count: number
  /** `[count, 2]`, row-major. */
  readonly points: Float32Array
  /** `[count]`, in the order of the classes. */
  readonly labels: Int32Array
}

export function clusters({ classes, pointsPerClass, radius, deviation, seed }: ClusterOptions): Clusters {
  const count = classes * pointsPerClass
  const noise = tf.tidy(() =>
    tf.randomNormal([count, 2], 0, deviation, 'float32', seed).dataSync<'float32'>(),
  )
  const labels = Int32Array.from({ length: count }, (_, point) => Math.floor(point / pointsPerClass))
  const points = noise.map((offset, index) => {
    const angle = (2 * Math.PI * (labels[index >> 1] ?? 0)) / classes
    return radius * (index % 2 === 0 ? Math.cos(angle) : Math.sin(angle)) + offset
  })
  return { count, points, labels }
}

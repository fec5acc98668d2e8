/** Scores the logits of an implementation: mean cross-entropy and accuracy. */

export interface Score {
  /** Mean cross-entropy in nats. */
  readonly loss: number
  /** Fraction of the digits whose largest logit belongs to the right label, 0…1. */
  readonly accuracy: number
}

/**
 * @param logits `[count, classes]`, row-major
 * @param labels `[count]`
 */
export function score(logits: ArrayLike<number>, labels: ArrayLike<number>): Score {
  const count = labels.length
  const classes = logits.length / count
  const predicted = predictions(logits, count)
  let loss = 0
  let right = 0
  for (let row = 0; row < count; row++) {
    const label = labels[row] ?? 0
    const largest = logits[row * classes + (predicted[row] ?? 0)] ?? 0
    let sum = 0
    for (let column = 0; column < classes; column++)
      sum += Math.exp((logits[row * classes + column] ?? 0) - largest)
    loss += largest + Math.log(sum) - (logits[row * classes + label] ?? 0)
    if (predicted[row] === label) right++
  }
  return { loss: loss / count, accuracy: right / count }
}

/** Returns the index of the largest logit in each of `count` rows; of equal logits, the first. */
export function predictions(logits: ArrayLike<number>, count: number): Int32Array {
  const classes = logits.length / count
  return Int32Array.from({ length: count }, (_, row) => {
    let best = 0
    for (let column = 1; column < classes; column++) {
      if ((logits[row * classes + column] ?? 0) > (logits[row * classes + best] ?? 0)) best = column
    }
    return best
  })
}

/** Compares the whole gradient of a trainer with central differences of its loss. */
import type { Trainer, TrainingBatch } from '../trainer.js'

/** AdamW's first moment moves by this share towards the gradient. */
const SHARE = 1 - 0.9

/**
 * Trains one step, and restores the adapter. Along each direction it compares the slope that the gradients give with the central difference.
 *
 * @param change how much the loss is to change along a direction: large compared with the rounding of the loss, small compared with its
 *   curvature
 * @param only the inputs of the graph that are changed
 * @returns the relative error of each slope
 */
export async function gradientErrors(
  trainer: Trainer,
  batch: TrainingBatch,
  {
    directions = 3,
    change = 0.001,
    only = () => true,
  }: {
    readonly directions?: number
    readonly change?: number
    readonly only?: (input: string) => boolean
  } = {},
): Promise<number[]> {
  const before = trainer.saveState()
  const { values } = before
  await trainer.step(batch)
  const gradients = trainer.saveState().optimizers.flatMap(({ vectors }, o) =>
    vectors.map(({ first }, i) => {
      const old = before.optimizers[o].vectors[i]?.first ?? []
      return first.map((value, k) => (value - (1 - SHARE) * (old[k] ?? 0)) / SHARE)
    }),
  )
  const inputs = [...values.keys()]
  const errors: number[] = []
  for (let seed = 1; seed <= directions; seed++) {
    const noise = gaussian(seed)
    // Along the gradient the loss changes most. The noise finds gradients that are 0 by mistake.
    const direction = gradients.map((gradient, p) => {
      if (!only(inputs[p])) return gradient.map(() => 0)
      const size = Math.sqrt(gradient.reduce((sum, value) => sum + value * value, 0) / gradient.length)
      return gradient.map((value) => value + size * noise())
    })
    const slope = gradients.reduce(
      (sum, gradient, p) => sum + gradient.reduce((part, value, i) => part + value * direction[p][i], 0),
      0,
    )
    const h = change / Math.abs(slope)
    const lossAt = async (step: number) => {
      const moved = Array.from(
        values,
        ([input, vector], p) => [input, vector.map((value, i) => value + step * direction[p][i])] as const,
      )
      trainer.setValues(new Map(moved))
      return (await trainer.evaluate([batch])).loss
    }
    // The error of the central difference is of the order h²; that of this combination is of the order h⁴.
    const differenceOver = async (step: number) => ((await lossAt(step)) - (await lossAt(-step))) / (2 * step)
    const difference = (4 * (await differenceOver(h)) - (await differenceOver(2 * h))) / 3
    errors.push(Math.abs(difference - slope) / Math.abs(slope))
  }
  trainer.setValues(values)
  return errors
}

/** Normally distributed numbers. */
function gaussian(seed: number): () => number {
  let state = seed * 7919
  const uniform = () => {
    state = (state * 1103515245 + 12345) % 2 ** 31
    return (state + 0.5) / 2 ** 31
  }
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())
}

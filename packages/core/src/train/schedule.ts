/**
 * Learning rate schedules with warm-up, like Hugging Face's `get_linear_schedule_with_warmup` and `get_cosine_schedule_with_warmup`.
 * A schedule is a function from the number of steps taken so far (0 in the first step) to a multiplier in `[0, 1]`:
 * `optimizer.step(c, g, learningRate * schedule(step))`.
 */
import { FourierFTError } from '../errors.js'

export interface ScheduleOptions {
  /** Number of steps in which the multiplier rises from 0 to 1; an integer, at least 0. If it is above 0, the multiplier of the first step is 0. */
  readonly warmupSteps: number
  /** The step at which the multiplier reaches 0; an integer, at least 1. */
  readonly totalSteps: number
}

export type Schedule = (step: number) => number

/**
 * Rises linearly to 1, then falls linearly to 0, and stays 0 after `totalSteps`.
 *
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function linearSchedule(options: ScheduleOptions): Schedule {
  const { totalSteps } = options
  return withWarmup(options, (step, decaySteps) => Math.max(0, (totalSteps - step) / decaySteps))
}

/**
 * Rises linearly to 1, then falls to 0 along half a cosine wave. Stop training at `totalSteps`: as in Transformers, the wave rises again after it.
 *
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function cosineSchedule(options: ScheduleOptions): Schedule {
  const { warmupSteps } = options
  return withWarmup(
    options,
    (step, decaySteps) => (1 + Math.cos((Math.PI * (step - warmupSteps)) / decaySteps)) / 2,
  )
}

function withWarmup(
  { warmupSteps, totalSteps }: ScheduleOptions,
  decay: (step: number, decaySteps: number) => number,
): Schedule {
  requireInteger('warmupSteps', warmupSteps, 0)
  requireInteger('totalSteps', totalSteps, 1)
  const decaySteps = Math.max(1, totalSteps - warmupSteps)
  return (step) => (step < warmupSteps ? step / warmupSteps : decay(step, decaySteps))
}

function requireInteger(option: string, received: number, least: number): void {
  if (Number.isSafeInteger(received) && received >= least) return
  throw new FourierFTError(
    'INVALID_OPTION',
    `${option}: expected an integer of at least ${least}; received ${received}`,
    { option, expected: `an integer ≥ ${least}`, received },
  )
}

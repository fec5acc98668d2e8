/** Estimates the memory of one run of a training graph, from the shapes of its inputs. */
import { DataType } from '../model/schema.js'
import type { MeasuredSize } from '../shapes/batch-axis.js'
import type { PlannedPass } from './keep-or-recompute.js'

type DimsOf = (input: string) => readonly number[] | undefined

/**
 * Estimates the bytes of the values that a run holds at the same time. Weights are not counted.
 *
 * @param dimsOf gives the shape of an input
 */
export type StepMemory = (dimsOf: DimsOf) => number

/** What is known of forward values. */
export interface ForwardValues {
  /** The sizes of a value's axes; undefined if they do not follow from those of the inputs. */
  sizesOf(value: string): readonly MeasuredSize[] | undefined
  typeOf(value: string): number
}

/** The derivative of an activation has some parts of the size of the activation at the same time, and the gradient. */
const LARGEST_VALUES = 4

const BYTES: ReadonlyMap<number, number> = new Map([
  [DataType.double, 8],
  [DataType.float16, 2],
  [DataType.bfloat16, 2],
])

/** Values whose sizes do not follow from those of the inputs are not counted. */
export function estimateStepMemory(
  { kept, recomputed }: Omit<PlannedPass, 'nodes'>,
  values: ForwardValues,
): StepMemory {
  const sized = (names: ReadonlySet<string>) =>
    Array.from(names, (name) => ({
      width: BYTES.get(values.typeOf(name)) ?? 4,
      sizes: values.sizesOf(name) ?? [[]],
    }))
  const [ofKept, ofSegments] = [sized(kept), recomputed.map(sized)]
  return (dimsOf) => {
    const bytes = (all: typeof ofKept) =>
      all.map(({ width, sizes }) => sizes.reduce((product, size) => product * sizeFor(size, dimsOf), width))
    const keptBytes = bytes(ofKept)
    const segments = ofSegments.map(bytes)
    const largest = LARGEST_VALUES * Math.max(0, ...[keptBytes, ...segments].flat())
    return sum(keptBytes) + Math.max(0, ...segments.map(sum)) + largest
  }
}

function sizeFor(size: MeasuredSize, dimsOf: DimsOf): number {
  return sum(
    size.map(({ factor, inputAxes }) =>
      inputAxes.reduce((product, { input, axis }) => product * (dimsOf(input)?.[axis] ?? 0), factor),
    ),
  )
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

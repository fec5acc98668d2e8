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
  return (dimsOf) => {
    const [ofKept, ...ofSegments] = [kept, ...recomputed].map((names) => needOf(names, values, dimsOf))
    const working = Math.max(ofKept.working, ...ofSegments.map((need) => need.working))
    return ofKept.sum + Math.max(0, ...ofSegments.map((need) => need.sum)) + working
  }
}

/** The bytes of some values together, and those of temporary values of their size. */
export function needOf(
  names: ReadonlySet<string>,
  values: ForwardValues,
  dimsOf: DimsOf,
): { readonly sum: number; readonly working: number } {
  const bytes = Array.from(names, (name) => {
    const width = BYTES.get(values.typeOf(name)) ?? 4
    return (values.sizesOf(name) ?? [[]]).reduce((product, size) => product * sizeFor(size, dimsOf), width)
  })
  return { sum: sum(bytes), working: LARGEST_VALUES * Math.max(0, ...bytes) }
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

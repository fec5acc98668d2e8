/** The outputs that losses read. */
import { FourierFTError } from '@fourierft/core'
import type { TaskContext, ValueMetadata } from './task.js'

/**
 * The first of some outputs that the model has.
 *
 * @throws {FourierFTError} `UNSUPPORTED` if it has none of them
 */
export function outputNamed(
  { outputs, pipeline }: TaskContext,
  names: readonly string[],
  advice?: string,
): ValueMetadata {
  for (const name of names) {
    const output = outputs.find((output) => output.name === name)
    if (output) return output
  }
  throw new FourierFTError(
    'UNSUPPORTED',
    `${pipeline}: the model has no output ${names.join(' or ')}; it has ${outputs.map(({ name }) => name).join(', ')}`,
    { expected: names, received: outputs.map(({ name }) => name), ...(advice !== undefined && { advice }) },
  )
}

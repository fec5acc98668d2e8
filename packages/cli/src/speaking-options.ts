/** Core's advice in terms of the command line: where an error of core's tells to call its API otherwise, options are to be given. */
import { FourierFTError } from '@fourierft/core'

/**
 * Runs `action`.
 *
 * @param shapeOption how the command takes the shape that a file lacks, such as `--shape OUT,IN`
 * @throws what `action` throws, `SHAPE_UNKNOWN` and `NOT_REPRODUCIBLE` with the options to give
 */
export async function speakingOptions<Result>(
  shapeOption: string,
  action: () => Promise<Result>,
): Promise<Result> {
  try {
    return await action()
  } catch (error) {
    throw FourierFTError.isInstance(error) ? translated(error, shapeOption) : error
  }
}

function translated(error: FourierFTError, shapeOption: string): FourierFTError {
  const { code, message, details } = error
  switch (code) {
    case 'SHAPE_UNKNOWN': {
      const reason = `module ${details.module}: its shape is unknown, for the file does not hold it (PEFT's never do)`
      return new FourierFTError(code, `${reason}; give the base model's with ${shapeOption}`, details)
    }
    case 'NOT_REPRODUCIBLE': {
      // What stands behind the last semicolon is the advice.
      const reason = message.slice(0, message.lastIndexOf('; '))
      return new FourierFTError(code, `${reason}; write it with --to standalone`, details)
    }
    default:
      return error
  }
}

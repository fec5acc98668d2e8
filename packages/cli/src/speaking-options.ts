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
  const { code, problem, details } = error
  switch (code) {
    case 'SHAPE_UNKNOWN':
      return new FourierFTError(code, problem, {
        ...details,
        advice: `give the base model's with ${shapeOption}`,
      })
    case 'NOT_REPRODUCIBLE':
      return new FourierFTError(code, problem, { ...details, advice: 'write it with --to standalone' })
    default:
      return error
  }
}

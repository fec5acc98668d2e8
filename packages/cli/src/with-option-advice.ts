/** Replaces the advice of errors that is for callers of core: users of the tool need the name of an option. */
import { FourierFTError } from '@fourierft/core'

/**
 * Runs `action`.
 *
 * @param shapeOption the option of the command for a shape that the file does not contain, such as `--shape OUT,IN`
 * @throws the errors of `action`; the advice of `SHAPE_UNKNOWN` and `NOT_REPRODUCIBLE` names an option
 */
export async function withOptionAdvice<Result>(
  shapeOption: string,
  action: () => Promise<Result>,
): Promise<Result> {
  try {
    return await action()
  } catch (error) {
    const advice = FourierFTError.isInstance(error) && optionAdvice(error, shapeOption)
    throw advice ? new FourierFTError(error.code, error.problem, { ...error.details, advice }) : error
  }
}

function optionAdvice({ code }: FourierFTError, shapeOption: string): string | undefined {
  switch (code) {
    case 'SHAPE_UNKNOWN':
      return `give the base model's with ${shapeOption}`
    case 'NOT_REPRODUCIBLE':
      return 'write it with --to standalone'
    default:
      return undefined
  }
}

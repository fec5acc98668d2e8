/** What is thrown for a file that breaks ONNX's rules. */
import { FourierFTError } from '@fourierft/core'

/** File, node or tensor, for the message of an error; an object makes its text only when there is an error. */
export type Where = string | { readonly where: string }

export function invalidOnnx(where: Where, problem: string, cause?: unknown): FourierFTError {
  const file = typeof where === 'string' ? where : where.where
  return new FourierFTError(
    'INVALID_ONNX',
    `${file} is no valid ONNX: ${problem}. Check that the file is a complete .onnx model; export or download it again.`,
    { file, ...(cause === undefined ? {} : { cause }) },
  )
}

/** Runs the function; errors that are not ours become `INVALID_ONNX`. */
export function guarded<T>(where: Where, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    if (FourierFTError.isInstance(cause)) throw cause
    throw invalidOnnx(where, cause instanceof Error ? cause.message : String(cause), cause)
  }
}

/** The error of a file that breaks ONNX's rules. */
import { FourierFTError } from '@fourierft/core'

/** The file, node or tensor that an error message names. An object computes its description only if there is an error. */
export type Where = string | { readonly where: string }

export function invalidOnnx(where: Where, problem: string, cause?: unknown): FourierFTError {
  const file = typeof where === 'string' ? where : where.where
  return new FourierFTError('INVALID_ONNX', `${file} is not valid ONNX: ${problem}`, {
    file,
    ...(cause === undefined ? {} : { cause }),
    advice: 'check that the file is a complete .onnx model, and export or download it again',
  })
}

/** Runs the function; errors other than `FourierFTError` become `INVALID_ONNX`. */
export function guarded<T>(where: Where, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    if (FourierFTError.isInstance(cause)) throw cause
    throw invalidOnnx(where, cause instanceof Error ? cause.message : String(cause), cause)
  }
}

import { FourierFTError } from '@fourierft/core'

/** Returns the message of the `UNSUPPORTED` error with which `open` rejects, or undefined if it succeeds. Every other error is thrown. */
export async function reasonToSkip(open: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await open()
    return undefined
  } catch (error) {
    if (FourierFTError.isInstance(error) && error.code === 'UNSUPPORTED') return error.message
    throw error
  }
}

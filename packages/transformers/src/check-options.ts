/** `checkOptions`: rejects options that are not an object. Otherwise JavaScript would silently ignore, for example, a string. */
import { FourierFTError } from '@fourierft/core'

/**
 * Checks that `options` is an object.
 *
 * @param example an example for the error message, such as `{ name: 'german' }`
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function checkOptions(options: unknown, example: string): void {
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) return
  throw new FourierFTError(
    'INVALID_OPTION',
    `options: expected an object, such as ${example}; received ${JSON.stringify(options) ?? typeof options}`,
    { option: 'options', received: options },
  )
}

/** `checkOptions`: rejects options that are not an object. JavaScript would silently ignore a name in their place, for example. */
import { FourierFTError } from '@fourierft/core'

/**
 * @param example for the message, such as `{ name: 'german' }`
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

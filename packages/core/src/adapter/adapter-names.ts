/** Checks the names of adapters, for the methods of every package. */
import { FourierFTError } from '../errors.js'

/**
 * Returns a list of names, from one name or a list.
 *
 * @param option name of the argument in errors
 * @throws {FourierFTError} `INVALID_OPTION` for any other value
 */
export function listOfNames(option: string, names: string | readonly string[]): readonly string[] {
  if (typeof names === 'string') return [names]
  checkAdapterNames(option, names)
  return names
}

/** Checks that `names` is an array. @throws {FourierFTError} `INVALID_OPTION` */
export function checkAdapterNames(option: string, names: unknown): void {
  if (!Array.isArray(names))
    throw new FourierFTError(
      'INVALID_OPTION',
      `${option}: expected an array of adapter names; received ${names === null ? 'null' : typeof names}`,
      { option, received: names },
    )
}

/**
 * Checks that a new adapter can have the name.
 *
 * @param taken the names of the loaded adapters
 * @throws {FourierFTError} `INVALID_OPTION` if the name is not a non-empty string, `ADAPTER_EXISTS`
 */
export function checkNewAdapterName(name: unknown, taken: { has(name: string): boolean }): void {
  if (typeof name !== 'string' || name === '')
    throw new FourierFTError('INVALID_OPTION', 'name: expected a name for the adapter', {
      option: 'name',
      received: name,
    })
  if (taken.has(name))
    throw new FourierFTError('ADAPTER_EXISTS', `there is already an adapter '${name}'`, {
      advice: 'delete it first or choose another name',
      option: 'name',
      received: name,
    })
}

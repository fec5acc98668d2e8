/** Checks of the names of loaded adapters, for the methods of every package. */
import { FourierFTError } from '../errors.js'

/**
 * The names as a list, from one name or a list.
 *
 * @param option name of the argument in errors
 * @throws {FourierFTError} `INVALID_OPTION` for any other value
 */
export function listOfNames(option: string, names: string | readonly string[]): readonly string[] {
  if (typeof names === 'string') return [names]
  checkAdapterNames(option, names)
  return names
}

/** @throws {FourierFTError} `INVALID_OPTION` if it is not an array */
export function checkAdapterNames(option: string, names: unknown): void {
  if (!Array.isArray(names))
    throw new FourierFTError(
      'INVALID_OPTION',
      `${option}: expected an array of adapters' names; received ${names === null ? 'null' : typeof names}`,
      { option, received: names },
    )
}

/**
 * @param known the names that are taken
 * @throws {FourierFTError} `INVALID_OPTION` if it is not a non-empty string, `ADAPTER_EXISTS`
 */
export function checkNewAdapterName(name: unknown, known: { has(name: string): boolean }): void {
  if (typeof name !== 'string' || name === '')
    throw new FourierFTError('INVALID_OPTION', 'name: expected a name for the adapter', {
      option: 'name',
      received: name,
    })
  if (known.has(name))
    throw new FourierFTError('ADAPTER_EXISTS', `there is already an adapter '${name}'`, {
      advice: 'delete it first or choose another name',
      option: 'name',
      received: name,
    })
}

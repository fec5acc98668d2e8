/** What adapters are called where several are loaded: the checks that every package's verbs make. */
import { FourierFTError } from '../errors.js'

/**
 * One name, or several.
 *
 * @param option what the caller calls them
 * @throws {FourierFTError} `INVALID_OPTION` for what is neither
 */
export function listOfNames(option: string, names: string | readonly string[]): readonly string[] {
  if (typeof names === 'string') return [names]
  checkAdapterNames(option, names)
  return names
}

/** @throws {FourierFTError} `INVALID_OPTION` for what is no array */
export function checkAdapterNames(option: string, names: unknown): void {
  if (!Array.isArray(names))
    throw new FourierFTError(
      'INVALID_OPTION',
      `${option}: expected an array of adapters' names; received ${names === null ? 'null' : typeof names}`,
      { option, received: names },
    )
}

/**
 * @param known has the names that are taken
 * @throws {FourierFTError} `INVALID_OPTION` for what is no name, `ADAPTER_EXISTS`
 */
export function checkNewAdapterName(name: unknown, known: { has(name: string): boolean }): void {
  if (typeof name !== 'string' || name === '')
    throw new FourierFTError('INVALID_OPTION', 'name: expected a name for the adapter', {
      option: 'name',
      received: name,
    })
  if (known.has(name))
    throw new FourierFTError(
      'ADAPTER_EXISTS',
      `there is an adapter '${name}' already; delete it first or choose another name`,
      { option: 'name', received: name },
    )
}

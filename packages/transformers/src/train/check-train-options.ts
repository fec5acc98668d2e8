/** Checks of options that `train` and `evaluate` share. The trainer checks those that are passed to it. */
import { FourierFTError } from '@fourierft/core'

/** @throws {FourierFTError} `INVALID_OPTION` for an option that does not exist */
export function checkOptionNames(where: string, options: object, names: readonly string[]): void {
  const unknown = Object.keys(options).find((option) => !names.includes(option))
  if (unknown === undefined) return
  throw new FourierFTError('INVALID_OPTION', `${unknown}: there is no such option`, {
    option: unknown,
    expected: names,
    advice: `the options of ${where} are ${names.join(', ')}`,
  })
}

/** @throws {FourierFTError} `INVALID_OPTION` for options that are given and are not integers of at least 1 */
export function checkCounts<Options extends object>(
  options: Options,
  names: readonly (keyof Options & string)[],
): void {
  for (const option of names) {
    const value: unknown = options[option]
    if (value === undefined || (Number.isSafeInteger(value) && Number(value) >= 1)) continue
    throw new FourierFTError(
      'INVALID_OPTION',
      `${option}: expected an integer of at least 1; received ${String(value)}`,
      { option, received: value },
    )
  }
}

/** @throws {FourierFTError} `INVALID_OPTION` for a pipeline or a model instead of its adapters */
export function checkAdapters(adapters: unknown): void {
  if (typeof adapters === 'object' && adapters !== null && 'trainable' in adapters) return
  throw new FourierFTError('INVALID_OPTION', 'adapters: expected what attach() returns', {
    option: 'adapters',
    received: adapters,
    advice: 'call const adapters = await attach(pipeline), and pass adapters',
  })
}

/** Checks of options: unknown names, and values outside their range. */
import { FourierFTError } from '@fourierft/core'
import type { Loss } from '@fourierft/onnx'

/** @throws {FourierFTError} `INVALID_OPTION` for an option that does not exist, and for options that are no object */
export function checkNames(where: string, options: unknown, names: readonly string[]): void {
  if (typeof options !== 'object' || options === null)
    throw invalid(where, `an object with the options ${names.join(', ')}`, options)
  const unknown = Object.keys(options).find((name) => !names.includes(name))
  if (unknown === undefined) return
  throw new FourierFTError('INVALID_OPTION', `${unknown}: there is no such option`, {
    option: unknown,
    expected: names,
    advice: `the options of ${where} are ${names.join(', ')}`,
  })
}

/** Checks values that are given. @throws {FourierFTError} `INVALID_OPTION` */
export function checkValues(
  values: Readonly<Record<string, unknown>>,
  expected: string,
  isValid: (value: unknown) => boolean,
): void {
  for (const [option, value] of Object.entries(values))
    if (value !== undefined && !isValid(value)) throw invalid(option, expected, value)
}

export const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) >= 1
export const isPositive = (value: unknown): boolean => typeof value === 'number' && value > 0
export const isRate = (value: unknown): boolean => Number.isFinite(value) && Number(value) >= 0

export function invalid(option: string, expected: string, received: unknown): FourierFTError {
  const shown = typeof received === 'object' && received !== null ? 'an object' : String(received)
  return new FourierFTError('INVALID_OPTION', `${option}: expected ${expected}; received ${shown}`, {
    option,
    expected,
    received,
  })
}

/** @throws {FourierFTError} `INVALID_OPTION` */
export function checkBatch(batch: unknown): void {
  if (typeof batch !== 'object' || batch === null || !('feeds' in batch))
    throw invalid('batch', 'an object { feeds, labels }', batch)
}

/** @throws {FourierFTError} `INVALID_OPTION` */
export function checkLoss(loss: unknown, option = 'loss'): void {
  const { build, output } = (loss ?? {}) as Partial<Loss>
  if (typeof build !== 'function' || typeof output !== 'string')
    throw invalid(option, 'a loss, such as crossEntropy(output)', loss)
}

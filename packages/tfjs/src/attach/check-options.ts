/** Checks of the options of `attach` and `attachGraphModel`. */
import { FourierFTError, nearestNames } from '@fourierft/core'

const STRATEGIES: readonly unknown[] = ['auto', 'dense', 'factored', 'spectral', 'native']
const OPTIONS = ['moduleNames', 'strategy']

/** @throws {FourierFTError} `INVALID_OPTION` for an unknown option or strategy */
export function checkOptions(options: object): void {
  const unknown = Object.keys(options).find((option) => !OPTIONS.includes(option))
  if (unknown !== undefined) {
    throw new FourierFTError('INVALID_OPTION', `${unknown}: there is no such option`, {
      advice: `did you mean ${nearestNames([unknown], OPTIONS, 1).join()}?`,
      option: unknown,
      expected: OPTIONS,
    })
  }
  if ('strategy' in options && options.strategy !== undefined) checkStrategy(options.strategy)
}

/** @throws {FourierFTError} `INVALID_OPTION` */
export function checkStrategy(strategy: unknown): void {
  if (STRATEGIES.includes(strategy)) return
  throw new FourierFTError(
    'INVALID_OPTION',
    `strategy: expected one of ${STRATEGIES.join(', ')}; received ${String(strategy)}`,
    { option: 'strategy', expected: STRATEGIES, received: strategy },
  )
}

/** Adapters that train biases (`bias: 'all'`): files can hold them, runtimes do not apply them. */
import { FourierFTError } from '../errors.js'
import type { FourierFTConfig } from './config.js'

/**
 * To be asked before anything else: the biases belong to all kinds of modules, and what is wrong is not that these have no adapters.
 *
 * @param name of the adapter
 * @throws {FourierFTError} `UNSUPPORTED`
 */
export function rejectTrainedBiases(name: string, { bias }: FourierFTConfig): void {
  if (bias === 'none') return
  throw new FourierFTError(
    'UNSUPPORTED',
    `adapter '${name}' trains biases (bias: '${bias}'), which are not applied here; expected 'none'. Merge it in PEFT and export the ` +
      "merged model, or train it with bias 'none'",
    { option: 'bias', expected: 'none', received: bias },
  )
}

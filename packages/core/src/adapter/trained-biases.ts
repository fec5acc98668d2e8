/** Rejects adapters that train biases (`bias: 'all'`). Files can contain trained biases, but no package applies them. */
import { FourierFTError } from '../errors.js'
import type { FourierFTConfig } from './config.js'

/**
 * Rejects an adapter with trained biases. Call it before other checks: the biases may belong to any kind of module, and another check would
 * report those modules instead.
 *
 * @param name of the adapter
 * @throws {FourierFTError} `UNSUPPORTED`
 */
export function rejectTrainedBiases(name: string, { bias }: FourierFTConfig): void {
  if (bias === 'none') return
  throw new FourierFTError(
    'UNSUPPORTED',
    `adapter '${name}' trains biases (bias: '${bias}'), which are not supported`,
    {
      advice: "merge it in PEFT and export the merged model, or train it with bias 'none'",
      option: 'bias',
      expected: 'none',
      received: bias,
    },
  )
}

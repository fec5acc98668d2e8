/** Inputs that are tokens already: checked against the vocabulary, because an unknown id would fail within the model. */
import type { Pipe } from '../../engine.js'
import { invalid } from '../check.js'

export function checkTokenIds({ model }: Pipe, ids: readonly number[], param: string): void {
  const { config } = model
  const size = config.vocab_size ?? config.text_config?.vocab_size
  if (size === undefined)
    throw invalid(param, 'the size of the vocabulary is unknown, so token ids are not accepted')
  const wrong = ids.find((id) => id >= size)
  if (wrong !== undefined) throw invalid(param, `token ${wrong} is not in the vocabulary, which has ${size}`)
}

/** `joinedInputName`: the names of a decoder's inputs in the graph of encoder and decoder: those that transformers uses for the whole model. */

/** The decoder's input that the encoder computes. */
export const HIDDEN_STATES = 'encoder_hidden_states'

/**
 * Returns the name of a decoder's input in the joined graph.
 *
 * | decoder's input | joined graph |
 * | --- | --- |
 * | `encoder_hidden_states` | none: the encoder computes it |
 * | `encoder_attention_mask`, and other inputs of the encoder after `encoder_` | the input of the encoder: `attention_mask` |
 * | a name that the encoder's inputs have: `input_ids`, `attention_mask` | `decoder_input_ids`, `decoder_attention_mask` |
 * | any other: `past_key_values.0.decoder.key` | the same |
 *
 * @param encoderInputs the inputs of the encoder
 * @returns undefined for an input that is not one of the joined graph
 */
export function joinedInputName(name: string, encoderInputs: ReadonlySet<string>): string | undefined {
  if (name === HIDDEN_STATES) return undefined
  const [, ofEncoder = ''] = /^encoder_(.*)$/.exec(name) ?? []
  if (encoderInputs.has(ofEncoder)) return ofEncoder
  return encoderInputs.has(name) ? `decoder_${name}` : name
}

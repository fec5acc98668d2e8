/**
 * Prepares MiniLM for transformers.js and PEFT's adapters. The file that `packages/onnxruntime/scripts/minilm.js` fetches was exported together
 * with the pooling after the encoder, so modules have a common prefix, and the name of the hidden states is a number.
 */
import { readModel } from '@fourierft/onnx'

const root = '/model/model.0/auto_model'
const hiddenStates = 'onnx::Shape_422'

/** Adds the output `last_hidden_state` `[texts, tokens, 384]` and removes the prefix of module names. */
export function prepareEncoder(bytes: Uint8Array, file: string): Uint8Array {
  const model = readModel(bytes, { file })
  const { graph } = model
  for (const node of graph.nodes) {
    const { name, opType, inputs, outputs } = node
    // Linear layers; they have no attributes.
    if (opType === 'MatMul' && name.startsWith(root))
      graph.replaceNode(node, [{ name: name.slice(root.length), opType, inputs, outputs }])
  }
  const last = graph.nodes.find(({ outputs }) => outputs.includes(hiddenStates))
  if (last === undefined)
    throw new Error(`${file} has no value ${hiddenStates}; expected the MiniLM that minilm.js fetches`)
  const output = 'last_hidden_state'
  graph.insertAfter(last, [{ opType: 'Identity', inputs: [hiddenStates], outputs: [output] }])
  graph.addOutput({ name: output })
  return model.toBytes()
}

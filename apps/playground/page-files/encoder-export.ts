/**
 * MiniLM as transformers.js and PEFT know it. The file that `packages/onnxruntime/scripts/minilm.js` fetches was exported together with
 * the pooling behind the encoder: modules have the names of that whole, and the hidden states have a number for a name.
 */
import { readModel } from '@fourierft/onnx'

const root = '/model/model.0/auto_model'
const hiddenStates = 'onnx::Shape_422'

/** `[texts, tokens, 384]` in an output `last_hidden_state`, modules without the root. */
export function encoderExport(bytes: Uint8Array, file: string): Uint8Array {
  const model = readModel(bytes, { file })
  const { graph } = model
  for (const node of graph.nodes) {
    const { name, opType, inputs, outputs } = node
    // Linear layers; attributes they have none.
    if (opType === 'MatMul' && name.startsWith(root))
      graph.replaceNode(node, [{ name: name.slice(root.length), opType, inputs, outputs }])
  }
  const last = graph.nodes.find(({ outputs }) => outputs.includes(hiddenStates))
  if (last === undefined) throw new Error(`${file} has no ${hiddenStates}: it is another export of MiniLM`)
  const output = 'last_hidden_state'
  graph.insertAfter(last, [{ opType: 'Identity', inputs: [hiddenStates], outputs: [output] }])
  graph.addOutput({ name: output })
  return model.toBytes()
}

/**
 * A model from nothing: what `readModel` gives for a file that is already there. No operator is known here; the runtime says what a graph
 * may hold.
 *
 *     const model = createModel({ name: 'main', nodes: […], inputs: […], outputs: […], initializers: […] }, { opset: 17 })
 *     const bytes = model.toBytes()
 */
import { FourierFTError } from '@fourierft/core'
import { encodeGraph, encodeOpset, type NewGraph } from './encode.js'
import { OnnxModel } from './model.js'
import { Model } from './schema.js'
import { field, message } from './wire-message.js'

/** The IR version of new models: initializers are no inputs, and there may be functions. Every runtime since 2021 reads it. */
const IR_VERSION = 8

export interface CreateModelOptions {
  /** Version of ONNX's own operator set; `addOpsetImport` adds others. */
  readonly opset: number
  /** The model's name, for the messages of errors. */
  readonly file?: string
}

/**
 * Makes a model of IR version 8. Nodes, inputs, outputs and initializers may be given here or added to `model.graph` afterwards; the data of
 * initializers are kept as views until the model is written.
 *
 * @param graph its nodes in an order of execution, as ONNX demands
 * @throws FourierFTError INVALID_OPTION: an opset that is no whole number from 1 on, a graph without a name, a value that is made twice;
 *   SHAPE_MISMATCH: the data of an initializer are not as long as its dims say
 */
export function createModel(
  graph: NewGraph,
  { opset, file = 'the new model' }: CreateModelOptions,
): OnnxModel {
  if (!Number.isSafeInteger(opset) || opset < 1)
    throw new FourierFTError(
      'INVALID_OPTION',
      `opset: expected a whole number from 1 on; received ${opset}`,
      {
        option: 'opset',
        received: opset,
      },
    )
  if (graph.name === '')
    throw new FourierFTError(
      'INVALID_OPTION',
      `name: the graph of ${file} needs a name, as ONNX demands; received ''`,
      { file, option: 'name', received: graph.name },
    )
  rejectDuplicates(graph, file)
  const model = new OnnxModel(
    message(
      field(Model.irVersion, IR_VERSION),
      field(Model.graph, encodeGraph(graph)),
      field(Model.opsetImport, encodeOpset('', opset)),
    ),
    file,
  )
  // Compares dims and data.
  for (const tensor of model.graph.initializers.values()) tensor.data()
  return model
}

/** Every value has one origin: an input, an initializer or a node. */
function rejectDuplicates({ inputs = [], initializers = [], nodes }: NewGraph, file: string): void {
  const seen = new Set<string>()
  const names = [...inputs, ...initializers].map(({ name = '' }) => name)
  for (const name of [...names, ...nodes.flatMap(({ outputs }) => outputs)]) {
    if (seen.has(name))
      throw new FourierFTError(
        'INVALID_OPTION',
        `${file} makes the value ${JSON.stringify(name)} twice; give each input, initializer and node output a name of its own.`,
        { file, tensor: name },
      )
    // Optional outputs that are left out have no name.
    if (name !== '') seen.add(name)
  }
}

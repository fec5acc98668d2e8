/**
 * Creates a model without a file; `readModel` reads one from a file. Operators are not checked: the runtime decides which of them a graph
 * may contain.
 *
 *     const model = createModel({ name: 'main', nodes: […], inputs: […], outputs: […], initializers: […] }, { opset: 17 })
 *     const bytes = model.toBytes()
 */
import { FourierFTError } from '@fourierft/core'
import { encodeGraph, encodeOpset, type NewGraph } from './encode.js'
import { OnnxModel } from './model.js'
import { Model } from './schema.js'
import { field, message } from './wire-message.js'

/** The IR version of new models: initializers need not be inputs, and functions are allowed. Every runtime since 2021 reads it. */
const IR_VERSION = 8

export interface CreateModelOptions {
  /** The version of ONNX's own operator set; `addOpsetImport` adds others. */
  readonly opset: number
  /** The model's name in error messages. */
  readonly file?: string
}

/**
 * Creates a model of IR version 8. More nodes, inputs, outputs and initializers can be added to `model.graph` later. The data of
 * initializers are kept as views until the model is written.
 *
 * @param graph its nodes must be in an order of execution, as ONNX demands
 * @throws {FourierFTError} `INVALID_OPTION` for an opset that is not a positive integer, a graph without a name, or a value that is defined
 *   twice; `SHAPE_MISMATCH` if the data of an initializer do not fit its dims
 */
export function createModel(
  graph: NewGraph,
  { opset, file = 'the new model' }: CreateModelOptions,
): OnnxModel {
  if (!Number.isSafeInteger(opset) || opset < 1)
    throw new FourierFTError('INVALID_OPTION', `opset: expected a positive integer; received ${opset}`, {
      option: 'opset',
      received: opset,
    })
  if (graph.name === '')
    throw new FourierFTError(
      'INVALID_OPTION',
      `name: expected a name for the graph of ${file}; received ''`,
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
  // `data()` compares the data with the dims.
  for (const tensor of model.graph.initializers.values()) tensor.data()
  return model
}

/** Rejects a graph that defines a value twice, as an input, an initializer or a node's output. */
function rejectDuplicates({ inputs = [], initializers = [], nodes }: NewGraph, file: string): void {
  const seen = new Set<string>()
  const names = [...inputs, ...initializers].map(({ name = '' }) => name)
  for (const name of [...names, ...nodes.flatMap(({ outputs }) => outputs)]) {
    if (seen.has(name))
      throw new FourierFTError('INVALID_OPTION', `${file} defines the value ${JSON.stringify(name)} twice`, {
        file,
        tensor: name,
        advice: 'give each input, initializer and node output its own name',
      })
    // Omitted optional outputs have no name.
    if (name !== '') seen.add(name)
  }
}

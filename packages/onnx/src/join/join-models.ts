/**
 * `joinModels`: one graph of an encoder and a decoder that were exported as two models, in which the decoder reads what the encoder computes. So a
 * loss of the decoder's output has gradients in both.
 */
import { FourierFTError } from '@fourierft/core'
import { inlineFunctions } from '../differentiate/prepare/inline-functions.js'
import { definedNames, Names } from '../differentiate/prepare/names.js'
import { raiseOpset } from '../differentiate/prepare/raise-opset.js'
import type { OnnxGraph } from '../model/graph.js'
import { OnnxModel } from '../model/model.js'
import { renameNode, renameValue, renameValues } from '../model/rename-values.js'
import { Graph, Model, Tensor, ValueInfo } from '../model/schema.js'
import type { OnnxValue } from '../model/value.js'
import { field, message, type WireField } from '../model/wire-message.js'
import { HIDDEN_STATES, joinedInputName } from './joined-input-name.js'
import { renameDims } from './rename-dims.js'

/** The output of an encoder that decoders read. */
export const ENCODER_OUTPUT = 'last_hidden_state'

export interface JoinedModels {
  /** The inputs are those of the encoder, and those of the decoder by {@link joinedInputName}; the outputs are those of the decoder. */
  readonly model: OnnxModel
  /** The values of the encoder that have other names in the joined graph: old name → new name. */
  readonly encoderNames: ReadonlyMap<string, string>
  /** The same for the values of the decoder. */
  readonly decoderNames: ReadonlyMap<string, string>
}

/**
 * Joins an encoder and a decoder. Both are edited, and must not be used afterwards. Weights are not copied, and external data stay in their files.
 *
 * @param encoder with the output `last_hidden_state`
 * @param decoder with the input `encoder_hidden_states`
 * @throws {FourierFTError} `INVALID_OPTION` for models without that output or input; `UNSUPPORTED` for models that need different versions of an
 *   operator set
 */
export function joinModels(encoder: OnnxModel, decoder: OnnxModel): JoinedModels {
  checkParts(encoder, decoder)
  const opsets = commonOpsets(encoder, decoder)
  inlineFunctions(encoder, new Names(encoder))
  const { encoderNames, decoderNames, nodeName } = newNames(encoder.graph, decoder.graph)
  renameDims(encoder.graph, dimNames(encoder.graph, decoder.graph))
  const [first, second] = [encoder.graph, decoder.graph]
  const parts = [
    { graph: first, names: encoderNames, nodeName },
    { graph: second, names: decoderNames, nodeName: (name: string) => name },
  ]
  const nodes = parts.flatMap(({ graph, names, nodeName }) => {
    const fields = graph.fields(Graph.node)
    for (const one of fields) {
      renameValues(one.editableMessage(graph), names, graph)
      renameNode(one.editableMessage(graph), nodeName)
    }
    return fields
  })
  const renamed = (number: number, nameNumber: number) =>
    parts.flatMap(({ graph, names }) => {
      const fields = graph.fields(number)
      for (const one of fields) renameValue(one, nameNumber, names, graph)
      return fields
    })
  const initializers = renamed(Graph.initializer, Tensor.name)
  const isInput = inputFilter(first, second)
  const model = new OnnxModel(
    message(
      // 8 is the version in which initializers need not be inputs, and functions exist.
      field(Model.irVersion, Math.max(8, encoder.irVersion, decoder.irVersion)),
      field(
        Model.graph,
        message(
          ...nodes,
          field(Graph.name, 'encoder and decoder'),
          ...initializers,
          ...renamed(Graph.input, ValueInfo.name).filter(isInput),
          ...second.fields(Graph.output),
          ...renamed(Graph.valueInfo, ValueInfo.name),
        ),
      ),
      ...decoder.fields(Model.functions),
    ),
    decoder.file,
  )
  for (const [domain, version] of opsets) model.addOpsetImport(domain, version)
  return { model, encoderNames, decoderNames }
}

function checkParts(encoder: OnnxModel, decoder: OnnxModel): void {
  for (const [{ file }, kind, name, values] of [
    [encoder, 'output', ENCODER_OUTPUT, encoder.graph.outputs],
    [decoder, 'input', HIDDEN_STATES, decoder.graph.inputs],
  ] as const) {
    const names = values.map((value) => value.name)
    if (names.includes(name)) continue
    throw new FourierFTError(
      'INVALID_OPTION',
      `${file}: expected the ${kind} ${name}; it has ${names.join(', ')}`,
      {
        file,
        expected: name,
        received: names,
      },
    )
  }
}

/** Brings old models to one opset, and returns the operator sets of the joined model. */
function commonOpsets(encoder: OnnxModel, decoder: OnnxModel): ReadonlyMap<string, number> {
  if (encoder.opsetImports.get('') !== decoder.opsetImports.get(''))
    for (const model of [encoder, decoder]) raiseOpset(model, new Names(model))
  const opsets = new Map(encoder.opsetImports)
  for (const [domain, version] of decoder.opsetImports) {
    const other = opsets.get(domain)
    if (other !== undefined && other !== version)
      throw new FourierFTError(
        'UNSUPPORTED',
        `${encoder.file} uses version ${other} of the operator set ${JSON.stringify(domain)}, and ${decoder.file} version ${version}`,
        {
          file: decoder.file,
          expected: other,
          received: version,
          advice: 'export encoder and decoder with the same opset',
        },
      )
    opsets.set(domain, version)
  }
  return opsets
}

/** Gives all values, and the nodes of the encoder, names that are free in the joined graph. */
function newNames(encoder: OnnxGraph, decoder: OnnxGraph) {
  const encoderInputs = new Set(inputsOf(encoder))
  const taken = new Set(encoderInputs)
  const free = (name: string) => {
    let candidate = name
    for (let number = 2; taken.has(candidate); number++) candidate = `${name}.${number}`
    taken.add(candidate)
    return candidate
  }
  const decoderNames = new Map<string, string>()
  for (const name of inputsOf(decoder)) {
    const joined = joinedInputName(name, encoderInputs) ?? name
    decoderNames.set(name, joined)
    taken.add(joined)
  }
  for (const name of valuesOf(decoder)) if (!decoderNames.has(name)) decoderNames.set(name, free(name))
  const encoderNames = new Map([[ENCODER_OUTPUT, HIDDEN_STATES]])
  for (const name of valuesOf(encoder))
    if (!encoderInputs.has(name) && !encoderNames.has(name)) encoderNames.set(name, free(name))
  const nodes = new Set(decoder.graphs().flatMap((graph) => graph.nodes.map(({ name }) => name)))
  const changed = (names: ReadonlyMap<string, string>) =>
    new Map([...names].filter(([from, to]) => from !== to))
  return {
    encoderNames: changed(encoderNames),
    decoderNames: changed(decoderNames),
    nodeName: (name: string) => {
      let candidate = name
      for (let number = 2; nodes.has(candidate); number++) candidate = `${name}.${number}`
      nodes.add(candidate)
      return candidate
    },
  }
}

/** The inputs that are no initializers. */
function inputsOf({ inputs, initializers }: OnnxGraph): string[] {
  return inputs.map(({ name }) => name).filter((name) => !initializers.has(name))
}

/** All values that the graph and the graphs inside it define. */
function valuesOf(graph: OnnxGraph): Set<string> {
  return new Set(graph.graphs().flatMap(definedNames))
}

/** Returns a filter of the renamed inputs: each of them once, without initializers and without that which the encoder computes. */
function inputFilter(encoder: OnnxGraph, decoder: OnnxGraph): (value: WireField) => boolean {
  const encoderInputs = new Set(inputsOf(encoder))
  const ofDecoder = inputsOf(decoder).map((name) => joinedInputName(name, encoderInputs))
  const wanted = new Set([...encoderInputs, ...ofDecoder])
  return (value) => wanted.delete(value.readOnlyMessage(encoder).text(ValueInfo.name) ?? '')
}

/**
 * Returns new names for those variable sizes of the encoder that the decoder would take for its own sizes of that name. Sizes that are the same in
 * both, such as the batch, get the decoder's names.
 */
function dimNames(encoder: OnnxGraph, decoder: OnnxGraph): ReadonlyMap<string, string> {
  const described = (values: readonly OnnxValue[], name: string) =>
    values.find((value) => value.name === name)?.dims ?? []
  const names = new Map<string, string>()
  const encoderInputs = new Set(inputsOf(encoder))
  const shared = [
    [described(encoder.outputs, ENCODER_OUTPUT), described(decoder.inputs, HIDDEN_STATES)] as const,
    ...decoder.inputs.flatMap(({ name, dims = [] }) => {
      const joined = joinedInputName(name, encoderInputs) ?? ''
      return encoderInputs.has(joined) ? [[described(encoder.inputs, joined), dims] as const] : []
    }),
  ]
  for (const [ofEncoder, ofDecoder] of shared)
    for (const [axis, dim] of ofEncoder.entries()) {
      const other = ofDecoder[axis]
      if (typeof dim === 'string' && typeof other === 'string') names.set(dim, other)
    }
  const symbols = (graph: OnnxGraph) =>
    graph
      .graphs()
      .flatMap(({ inputs, outputs, valueInfos }) => [...inputs, ...outputs, ...valueInfos])
      .flatMap(({ dims = [] }) => dims)
      .filter((dim) => typeof dim === 'string')
  const ofDecoder = new Set(symbols(decoder))
  for (const symbol of symbols(encoder))
    if (ofDecoder.has(symbol) && !names.has(symbol)) names.set(symbol, `encoder.${symbol}`)
  return names
}

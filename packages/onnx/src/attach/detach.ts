/** Removes from a model everything that `attachBranches` added: the model is then written as the original file, byte for byte. */
import { FourierFTError, parseJson } from '@fourierft/core'
import { encodeEntry } from '../model/encode.js'
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import { invalidOnnx } from '../model/invalid-onnx.js'
import type { OnnxModel } from '../model/model.js'
import { Model } from '../model/schema.js'
import { field } from '../model/wire-message.js'
import { originalName } from './branch.js'
import { ORIGINAL_METADATA_KEY, type Original } from './check-attachable.js'
import { DOMAIN } from './functions/branch-function.js'
import { originalWidth } from './replaceable-layer.js'

/** A part of the names of all attached values. */
const NAME_INFIX = `.${DOMAIN}.`
/** The end of the new name of a layer's original output, repeated for each branch on the layer. */
const BASE_SUFFIX = /(?:\.fourierft\.base)+$/

/**
 * Undoes `attachBranches`, on the model itself or on one that was read from its file.
 *
 * @throws {FourierFTError} `INVALID_STATE` if nothing is attached, or if the file was edited since; the model is then unchanged.
 *   `NOT_REPRODUCIBLE` if the original encoded lengths in more bytes than necessary, which no known exporter does; the branches are then
 *   removed, but the file is shorter than the original
 */
export function detachBranches(model: OnnxModel): void {
  const { size, irVersion } = checkDetachable(model)
  // Some faults of a broken file appear only during an edit.
  model.transaction(() => detachAll(model, irVersion))
  if (model.size !== size)
    throw new FourierFTError(
      'NOT_REPRODUCIBLE',
      `${model.file}: without adapters it has ${model.size} bytes, but the original had ${size}, because it encoded lengths in more bytes than necessary`,
      {
        file: model.file,
        expected: size,
        received: model.size,
        advice: 'keep the original file if its exact bytes matter',
      },
    )
}

function detachAll(model: OnnxModel, irVersion: number): void {
  const graphs = model.graph.graphs()
  const values = [...model.graph.inputs, ...model.graph.initializers.values()]
  const added = new Set(values.map(({ name }) => name).filter((name) => name.startsWith(`${DOMAIN}.`)))
  for (const graph of graphs) {
    restoreInputs(graph)
    moveNodesBack(graph)
    graph.removeNodes(graph.nodes.filter(isAttached))
    restoreOutputs(graph)
    restoreWidths(graph)
  }
  model.graph.removeInputs(added)
  model.graph.removeInitializers(added)
  model.removeFunction({ domain: DOMAIN, name: 'FourierFT' })
  model.removeOpsetImport(DOMAIN)
  model.removeMetadata(ORIGINAL_METADATA_KEY)
  model.setIrVersion(irVersion)
}

/**
 * Whether `attachBranches` added the node: it is in our domain, reads an attached value, or writes one other than a layer's renamed output.
 */
function isAttached({ domain, inputs, outputs }: OnnxNode): boolean {
  return (
    domain === DOMAIN ||
    inputs.some((name) => name.includes(NAME_INFIX)) ||
    outputs.some((name) => name.includes(NAME_INFIX) && !BASE_SUFFIX.test(name))
  )
}

/** Moves nodes that `attachBranches` put into an `If` back to their graph. */
function moveNodesBack(graph: OnnxGraph): void {
  for (const node of graph.nodes) {
    if (!isAttached(node)) continue
    const originals = node.subgraphs.flatMap(({ nodes }) =>
      nodes.filter((inner) => inner.outputs.some((name) => BASE_SUFFIX.test(name))),
    )
    if (originals.length > 0) graph.replaceNode(node, originals)
  }
}

function restoreInputs({ nodes }: OnnxGraph): void {
  for (const node of nodes)
    for (const [i, name] of node.inputs.entries())
      if (originalName(name) !== name) node.setInput(i, originalName(name))
}

function restoreOutputs({ nodes }: OnnxGraph): void {
  for (const node of nodes)
    for (const [i, name] of node.outputs.entries())
      if (BASE_SUFFIX.test(name)) node.setOutput(i, name.replace(BASE_SUFFIX, ''))
}

function restoreWidths(graph: OnnxGraph): void {
  for (const { name, dims } of [...graph.outputs, ...graph.valueInfos]) {
    const width = originalWidth(dims?.at(-1))
    if (width !== undefined) graph.setLastDim(name, width)
  }
}

function checkDetachable(model: OnnxModel): Original {
  const { file } = model
  const text = model.metadata.get(ORIGINAL_METADATA_KEY)
  if (text === undefined)
    throw new FourierFTError('INVALID_STATE', `${file} has no adapters attached by attachBranches`, { file })
  const { size, irVersion, attachedSize } = originalOf(text, file)
  const received = model.size - field(Model.metadata, encodeEntry(ORIGINAL_METADATA_KEY, text)).size
  if (received !== attachedSize)
    throw new FourierFTError(
      'INVALID_STATE',
      `${file} was edited after adapters had been attached, so the original file cannot be restored from it`,
      { file, expected: attachedSize, received, advice: 'use the original file itself' },
    )
  return { size, irVersion, attachedSize }
}

/** Reads the metadata entry, which may be invalid. */
function originalOf(text: string, file: string): Original {
  const parsed: unknown = parseJson(text, file)
  const [size, irVersion, attachedSize] = (['size', 'irVersion', 'attachedSize'] as const).map((key) => {
    const value: unknown =
      typeof parsed === 'object' && parsed !== null && Object.hasOwn(parsed, key)
        ? (parsed as Readonly<Record<string, unknown>>)[key]
        : undefined
    if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value
    throw invalidOnnx(
      file,
      `${key} of its metadata entry ${ORIGINAL_METADATA_KEY}: expected a positive integer; received ${JSON.stringify(value)}`,
    )
  }) as [number, number, number]
  return { size, irVersion, attachedSize }
}

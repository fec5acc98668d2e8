/**
 * Takes the branches of `attachBranches` out of a model again: what is written then is the original file, byte for byte.
 */
import { FourierFTError, parseJson } from '@fourierft/core'
import { encodeEntry } from '../model/encode.js'
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import { invalidOnnx } from '../model/invalid-onnx.js'
import type { OnnxModel } from '../model/model.js'
import { Model } from '../model/schema.js'
import { field } from '../model/wire-message.js'
import { ORIGINAL, type Original, originalWidth, withoutInstead } from './attach.js'
import { DOMAIN } from './functions/branch-function.js'

/** What the names of values that were attached have in them. */
const INSIDE = `.${DOMAIN}.`
/** At the end of the name of a layer's own output, once for each branch on it. */
const BASE = /(?:\.fourierft\.base)+$/

/**
 * Undoes `attachBranches`, on the model itself or on one that was read from its file.
 *
 * @throws {FourierFTError} `INVALID_STATE`: nothing is attached, or the file was edited since; the model is left as it was then.
 *   `NOT_REPRODUCIBLE`: the original did not write its lengths in the shortest form, as all known exporters do; the branches are gone
 *   then, but the file is shorter than it was
 */
export function detachBranches(model: OnnxModel): void {
  const { size, irVersion } = check(model)
  // A broken file may show it only where it is edited.
  model.transaction(() => detachAll(model, irVersion))
  if (model.size !== size)
    throw new FourierFTError(
      'NOT_REPRODUCIBLE',
      `${model.file}: without adapters it has ${model.size} bytes, the original had ${size}, for its lengths were not written in the shortest form; keep the original file where its bytes matter.`,
      { file: model.file, expected: size, received: model.size },
    )
}

function detachAll(model: OnnxModel, irVersion: number): void {
  const graphs = model.graph.graphs()
  const values = [...model.graph.inputs, ...model.graph.initializers.values()]
  const added = new Set(values.map(({ name }) => name).filter((name) => name.startsWith(`${DOMAIN}.`)))
  for (const graph of graphs) {
    restoreInputs(graph)
    bringBack(graph)
    graph.removeNodes(graph.nodes.filter(isAttached))
    restoreOutputs(graph)
    restoreWidths(graph)
  }
  model.graph.removeInputs(added)
  model.graph.removeInitializers(added)
  model.removeFunction({ domain: DOMAIN, name: 'FourierFT' })
  model.removeOpsetImport(DOMAIN)
  model.removeMetadata(ORIGINAL)
  model.setIrVersion(irVersion)
}

/** A layer's own node only writes such a name; what was attached is of the domain, reads one, or writes one that is no base. */
function isAttached({ domain, inputs, outputs }: OnnxNode): boolean {
  return (
    domain === DOMAIN ||
    inputs.some((name) => name.includes(INSIDE)) ||
    outputs.some((name) => name.includes(INSIDE) && !BASE.test(name))
  )
}

/** Nodes that went into a branch of ours. */
function bringBack(graph: OnnxGraph): void {
  for (const node of graph.nodes) {
    if (!isAttached(node)) continue
    const own = node.subgraphs.flatMap(({ nodes }) =>
      nodes.filter((inner) => inner.outputs.some((name) => BASE.test(name))),
    )
    if (own.length > 0) graph.replaceNode(node, own)
  }
}

function restoreInputs({ nodes }: OnnxGraph): void {
  for (const node of nodes)
    for (const [i, name] of node.inputs.entries())
      if (withoutInstead(name) !== name) node.setInput(i, withoutInstead(name))
}

function restoreOutputs({ nodes }: OnnxGraph): void {
  for (const node of nodes)
    for (const [i, name] of node.outputs.entries())
      if (BASE.test(name)) node.setOutput(i, name.replace(BASE, ''))
}

function restoreWidths(graph: OnnxGraph): void {
  for (const { name, dims } of [...graph.outputs, ...graph.valueInfos]) {
    const width = originalWidth(dims?.at(-1))
    if (width !== undefined) graph.setLastDim(name, width)
  }
}

function check(model: OnnxModel): Original {
  const { file } = model
  const text = model.metadata.get(ORIGINAL)
  if (text === undefined)
    throw new FourierFTError(
      'INVALID_STATE',
      `${file} has no adapters attached by attachBranches; there is nothing to detach.`,
      { file },
    )
  const { size, irVersion, attachedSize } = originalOf(text, file)
  const received = model.size - field(Model.metadata, encodeEntry(ORIGINAL, text)).size
  if (received !== attachedSize)
    throw new FourierFTError(
      'INVALID_STATE',
      `${file} was edited after adapters had been attached, so that the original file cannot be told from it; take the original itself.`,
      { file, expected: attachedSize, received },
    )
  return { size, irVersion, attachedSize }
}

/** What the metadata say; whoever made the file may have written anything there. */
function originalOf(text: string, file: string): Original {
  const given: unknown = parseJson(text, file)
  const [size, irVersion, attachedSize] = (['size', 'irVersion', 'attachedSize'] as const).map((key) => {
    const value: unknown =
      typeof given === 'object' && given !== null && Object.hasOwn(given, key)
        ? (given as Readonly<Record<string, unknown>>)[key]
        : undefined
    if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value
    throw invalidOnnx(
      file,
      `its metadata ${ORIGINAL} say that ${key} is ${JSON.stringify(value)}, where a whole number from 1 on was expected`,
    )
  }) as [number, number, number]
  return { size, irVersion, attachedSize }
}

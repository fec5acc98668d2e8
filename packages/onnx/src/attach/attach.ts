/**
 * Makes a model ready for adapters: behind each linear layer that is named stands a `FourierFT` node, whose coefficients and choice of an
 * adapter for each row are new inputs of the graph. The weights are not touched. Fed without adapters the model gives its own bits.
 */
import { type Entries, entriesDigest, FourierFTError } from '@fourierft/core'
import { activationType } from '../layers/activation-type.js'
import { checkWeight } from '../layers/check-weight-size.js'
import { biasOf } from '../layers/layer-bias.js'
import { type LinearLayer, overlap } from '../layers/linear-layer.js'
import { productsOf } from '../layers/products.js'
import { isQuantised, outputNodeOf, samePair } from '../layers/quantised-pair.js'
import { setWidth, valuesOfFreeWidth } from '../layers/resizable-head.js'
import type { NewNode } from '../model/encode.js'
import type { OnnxNode } from '../model/graph.js'
import type { OnnxModel } from '../model/model.js'
import { constantOf } from '../model/names-in-scope.js'
import { NodeList } from '../model/node-list.js'
import { DataType } from '../model/schema.js'
import { batchAxes, findRows, type RowPosition } from '../shapes/batch-axis.js'
import { attachToAttention, checkAttention, type PartBranch } from './attach-attention.js'
import { branchFunction, DOMAIN } from './functions/branch-function.js'
import { branchTables, TABLE_NAMES } from './functions/branch-tables.js'
import { rowsOfTokens } from './row-nodes.js'

/** Where an adapter's layer goes. */
export interface Branch {
  /** The module's name, as in the adapter's file. */
  readonly module: string
  readonly layer: LinearLayer
  /** Of the layer's shape `[d1, d2]`. */
  readonly entries: Entries
}

/** A layer whose weight and bias adapters replace: PEFT's `modules_to_save`. */
export interface Replaceable {
  readonly module: string
  readonly layer: LinearLayer
  /** Adapters may bring another number of `outFeatures`, as heads with other labels do. The graph has to allow it: `valuesOfFreeWidth`. */
  readonly hasFreeWidth?: boolean
}

export interface AttachOptions {
  /** Layers that adapters may replace as a whole. */
  readonly replaceable?: readonly Replaceable[]
}

/** The inputs of an attached model that are new. */
export interface AttachedInputs {
  /** int64 `[R]`: for each of R equal parts of the batch its row of the coefficients, −1 for the last one, which is zero then. */
  readonly rows: string
  /** Input of the model → its axis that is the batch. */
  readonly batchAxes: ReadonlyMap<string, number>
  /** Modules whose layers do not have the batch, or where that is not known: only one row for all, R = 1, is right then. */
  readonly rowless: ReadonlyMap<string, Rowless>
  /** Module name → float32 `[A, n]`, each adapter's α·c; `[0, n]` for none. */
  readonly coefficients: ReadonlyMap<string, string>
  /** Module name of a layer that can be replaced → its inputs. */
  readonly weights: ReadonlyMap<string, WeightInputs>
}

export interface Rowless {
  /** The product that has no rows. */
  readonly node: string
  /** `none`: its input is the same for all rows. */
  readonly place: 'none' | 'unknown'
}

export interface WeightInputs {
  /** float32 `[in, out]`, the transpose of PyTorch's; `[in, 0]` for the model's own weight and bias. */
  readonly weight: string
  /** float32 `[out]`, `[0]` for the model's own; undefined: the layer has none. */
  readonly bias: string | undefined
}

/** The key of the metadata that say what `detachBranches` needs to know of the original file: {@link Original} as JSON. */
export const ORIGINAL = `${DOMAIN}.original`

export interface Original {
  /** Of the original file, in bytes. */
  readonly size: number
  readonly irVersion: number
  /** Of the file with all that was attached, but for these metadata. */
  readonly attachedSize: number
}

/** The first opset whose operators the portable function is made of. */
const LOWEST_OPSET = 11

/**
 * Adds the branches to the model. Of float16 and bfloat16 layers a branch computes in float32 and is rounded once.
 *
 * @throws {FourierFTError} `UNSUPPORTED` (opset below 11), `SHAPE_MISMATCH`, `INVALID_STATE` (attached already), `INVALID_OPTION` (no
 *   branches, two for one layer, two of one name); the model is left as it was then
 */
export function attachBranches(
  model: OnnxModel,
  branches: readonly Branch[],
  { replaceable = [] }: AttachOptions = {},
): AttachedInputs {
  const opset = check(model, branches, replaceable)
  // A broken file may show it only where it is edited.
  return model.transaction(() => attachAll(model, branches, replaceable, opset))
}

function attachAll(
  model: OnnxModel,
  branches: readonly Branch[],
  replaceable: readonly Replaceable[],
  opset: number,
): AttachedInputs {
  const rows = `${DOMAIN}.rows`
  const { size, irVersion } = model
  const batch = batchAxes(model.graph.inputs)
  const rowPlaces = placesOfRows(model, branches)
  model.raiseIrVersion(8)
  model.addOpsetImport(DOMAIN, 1)
  model.addFunction(branchFunction(opset))
  model.graph.addInput({ name: rows, dataType: DataType.int64, dims: [`${DOMAIN}_rows`] })

  const attentions = new Map<OnnxNode, PartBranch[]>()
  const prefixes = new Map<string, string>()
  const coefficients = new Map<string, string>()
  for (const { module, entries } of branches) {
    const digest = `${entries.shape.join('x')}:${entriesDigest(entries)}`
    const known = prefixes.get(digest)
    const prefix = known ?? `${DOMAIN}.${prefixes.size}.`
    if (known === undefined) {
      prefixes.set(digest, prefix)
      for (const table of branchTables(entries, prefix)) model.graph.addInitializer(table)
    }
    const input = `${DOMAIN}.${module}`
    model.graph.addInput({ name: input, dataType: DataType.float, dims: [`${DOMAIN}_adapters`, entries.n] })
    coefficients.set(module, input)
    const inputs = [input, rows, ...TABLE_NAMES.map((table) => prefix + table)]
    for (const { layer: each, place } of rowPlaces.get(module) ?? []) {
      const parts = attentions.get(each.node)
      if (parts) parts.push({ layer: each, inputs })
      else if (isAttention(each)) attentions.set(each.node, [{ layer: each, inputs }])
      else insert(each, { inputs, place })
    }
  }
  for (const [node, parts] of attentions) attachToAttention(node, parts)
  // What is inserted last stands next to the layer: a branch is added to the weight that replaces.
  const weights = new Map(replaceable.map((each) => [each.module, makeReplaceable(model, each)]))
  model.addMetadata(ORIGINAL, JSON.stringify({ size, irVersion, attachedSize: model.size }))
  return { rows, batchAxes: batch, rowless: rowlessOf(rowPlaces), coefficients, weights }
}

/** Found by `findPackedLayers`. */
function isAttention({ node }: LinearLayer): boolean {
  return node.opType === 'Attention' && node.domain === 'com.microsoft'
}

interface Product {
  readonly layer: LinearLayer
  readonly place: RowPosition
}

/** Of each branch's products, as the model is before anything is added to it. */
function placesOfRows(
  model: OnnxModel,
  branches: readonly Branch[],
): ReadonlyMap<string, readonly Product[]> {
  if (branches.length === 0) return new Map()
  const positionOf = findRows(model)
  return new Map(
    branches.map(({ module, layer }) => {
      const products = productsOf(layer).map((product) => {
        const place = positionOf(product)
        const isInside = isAttention(product) && place !== 'first' && place !== 'none'
        return { layer: product, place: isInside ? 'unknown' : place }
      })
      return [module, products]
    }),
  )
}

function rowlessOf(products: ReadonlyMap<string, readonly Product[]>): Map<string, Rowless> {
  const rowless = new Map<string, Rowless>()
  for (const [module, all] of products)
    for (const { layer, place } of all)
      if (place === 'none' || place === 'unknown') rowless.set(module, { node: layer.node.name, place })
  return rowless
}

/** What the branch of a product reads besides its input: coefficients, rows, tables; and where its input has the rows. */
interface BranchInputs {
  readonly inputs: readonly string[]
  readonly place: RowPosition
}

function insert(layer: LinearLayer, inputs: BranchInputs): void {
  const residual = layer.part ? undefined : residualOf(layer)
  if (residual) insertBeside(layer, residual, inputs)
  else insertBehind(layer, inputs)
}

/** A value that the layer's output is added to; what is added to this one instead is added all the same. */
interface Residual {
  readonly node: OnnxNode
  readonly index: number
  readonly name: string
  readonly other: string
}

/** What runtimes make one operator with the product, its bias and the residual connection before it. */
const NORMALISATIONS = ['LayerNormalization', 'SimplifiedLayerNormalization', 'ReduceMean']

/** The residual connection that alone reads product and bias, before a normalisation: a branch between them would prevent that fusion. */
function residualOf(layer: LinearLayer): Residual | undefined {
  const bias = biasOf(layer)
  if (bias?.node.opType !== 'Add') return undefined
  const { graph } = bias.node
  const [output] = bias.node.outputs as [string]
  const [node, ...others] = graph.consumersOf(output)
  if (node?.opType !== 'Add' || node.graph !== graph || others.length > 0) return undefined
  if (graph.isOutput(output)) return undefined
  const index = node.inputs.findIndex((input) => input !== output)
  const name = node.inputs[index]
  if (!name || constantOf(graph, name)) return undefined
  const isNormalised = graph
    .consumersOf(node.outputs[0] ?? '')
    .some(({ opType }) => NORMALISATIONS.includes(opType))
  return isNormalised ? { node, index, name, other: output } : undefined
}

/** The branch is added to the residual connection's other value. */
function insertBeside(layer: LinearLayer, residual: Residual, inputs: BranchInputs): void {
  const { node, index, name, other } = residual
  const sum = insteadName(name, other)
  const list = new NodeList(`${other}.${DOMAIN}.`)
  addBranch(list, { layer, base: name, sum, ...inputs, name: `${layer.node.name || other}/${DOMAIN}` })
  node.graph.insertBefore(node, list.nodes)
  node.setInput(index, sum)
}

/** The layer's output gets another name; the new node takes the old one, so that all who read it read the sum. */
function insertBehind(layer: LinearLayer, inputs: BranchInputs): void {
  const { part, outFeatures } = layer
  // Behind the bias, and what quantises: runtimes make one of them and the product, which a branch between would prevent.
  const outputNode = outputNodeOf(layer)
  const [output] = outputNode.outputs as [string]
  const list = new NodeList(`${output}.${DOMAIN}.`)
  const { add, constant } = list
  const base = `${output}.${DOMAIN}.base`
  /** The features `[from, to)`; nothing, where there are none. */
  const slice = (from: number, to: number) =>
    from === to ? [] : [add('Slice', [base, constant([from]), constant([to]), constant([-1])])]

  const again = quantisedAgain(outputNode, output)
  outputNode.setOutput(0, base)
  const name = `${outputNode.name || output}/${DOMAIN}`
  if (part) {
    const end = part.offset + outFeatures
    const own = slice(part.offset, end)[0] ?? base
    const sum = `${output}.${DOMAIN}.part`
    addBranch(list, { layer, base: own, sum, ...inputs, name: `${name}.${part.name}` })
    const all = [...slice(0, part.offset), sum, ...slice(end, part.width)]
    list.named([output], 'Concat', all, { axis: { int: -1 } })
  } else {
    addBranch(list, { layer, base, sum: output, ...inputs, name })
  }
  list.nodes.push(...again)
  outputNode.graph.insertAfter(outputNode, list.nodes)
}

/** Quantised operators go on reading what is rounded as the layer's output was; a branch of theirs reads the sum itself. */
function quantisedAgain(outputNode: OnnxNode, output: string): NewNode[] {
  if (outputNode.opType !== 'DequantizeLinear') return []
  const readers = outputNode.graph.consumersOf(output).filter(isQuantised)
  if (readers.length === 0) return []
  const rounded = insteadName(output, outputNode.inputs[0] ?? '')
  for (const reader of readers)
    for (const [i, name] of reader.inputs.entries()) if (name === output) reader.setInput(i, rounded)
  return samePair(outputNode, output, rounded)
}

interface BranchNode extends BranchInputs {
  readonly layer: LinearLayer
  readonly base: string
  /** What the result is called. */
  readonly sum: string
  readonly name: string
}

/** sum = base + Δy, in float32, of the type of the layer. */
function addBranch(list: NodeList, { layer, base, sum, inputs, place, name }: BranchNode): void {
  const type = activationType(layer)
  const isFloat = type === DataType.float
  const wide = (tensor: string) =>
    isFloat ? tensor : list.add('Cast', [tensor], { to: { int: DataType.float } })
  const result = isFloat ? sum : `${sum}.${DOMAIN}.wide`
  const [coefficients = '', rows = '', ...tables] = inputs
  const ofTokens = rowsOfTokens(list, layer.input, rows, place)
  const all = [wide(layer.input), wide(base), coefficients, ofTokens, ...tables]
  list.nodes.push({ name, opType: 'FourierFT', domain: DOMAIN, inputs: all, outputs: [result] })
  if (!isFloat) list.named([sum], 'Cast', [result], { to: { int: type } })
}

/** `If` no weight is fed the layer's own output, else x·W + b, in float32. */
function makeReplaceable(
  { graph }: OnnxModel,
  { module, layer, hasFreeWidth = false }: Replaceable,
): WeightInputs {
  const { inFeatures, outFeatures } = layer
  const inputs = {
    weight: `${DOMAIN}.${module}.weight`,
    bias: biasOf(layer) ? `${DOMAIN}.${module}.bias` : undefined,
  }
  const features = hasFreeWidth ? `${DOMAIN}_${module}_features` : `${DOMAIN}_${outFeatures}_or_0`
  if (hasFreeWidth) setWidth(graph, valuesOfFreeWidth(layer) ?? [], openWidth)
  graph.addInput({ name: inputs.weight, dataType: DataType.float, dims: [inFeatures, features] })
  if (inputs.bias) graph.addInput({ name: inputs.bias, dataType: DataType.float, dims: [features] })
  for (const each of productsOf(layer)) insertChoice(each, inputs, hasFreeWidth)
  return inputs
}

/** A width of the original file that is open now, by name. */
const openWidth = (width: number) => `${DOMAIN}_${width}_or_other`
const OPEN_WIDTH = new RegExp(`^${DOMAIN}_(\\d+)_or_other$`)

/** What `openWidth` was made of. */
export function originalWidth(dim: number | string | undefined): number | undefined {
  const width = typeof dim === 'string' ? OPEN_WIDTH.exec(dim)?.[1] : undefined
  return width === undefined ? undefined : Number(width)
}

function insertChoice(layer: LinearLayer, inputs: WeightInputs, hasFreeWidth: boolean): void {
  const { input } = layer
  const outputNode = outputNodeOf(layer)
  const [output] = outputNode.outputs as [string]
  const base = `${output}.${DOMAIN}.base`
  const again = quantisedAgain(outputNode, output)
  outputNode.setOutput(0, base)
  const { nodes, add, named, constant } = new NodeList(`${output}.${DOMAIN}.`)
  const isOwn = add('Equal', [add('Size', [inputs.weight]), constant([0], [])])
  const own = new NodeList(`${output}.${DOMAIN}.own.`)
  own.named([`${output}.${DOMAIN}.kept`], 'Identity', [base])
  const other = new NodeList(`${output}.${DOMAIN}.other.`)
  const activations = activationType(layer)
  const isFloat = activations === DataType.float
  const x = isFloat ? input : other.add('Cast', [input], { to: { int: DataType.float } })
  const product = other.add('MatMul', [x, inputs.weight])
  const sum = inputs.bias ? other.add('Add', [product, inputs.bias]) : product
  const result = isFloat ? sum : other.add('Cast', [sum], { to: { int: activations } })
  const replaced = [`${output}.${DOMAIN}.replaced`]
  // `Reshape` tells the shape to runtimes that infer shapes.
  if (hasFreeWidth) other.named(replaced, 'Identity', [result])
  else other.named(replaced, 'Reshape', [result, other.add('Shape', [base])])
  named([output], 'If', [isOwn], {
    then_branch: {
      graph: { name: 'own', nodes: own.nodes, outputs: [{ name: `${output}.${DOMAIN}.kept` }] },
    },
    else_branch: {
      graph: { name: 'other', nodes: other.nodes, outputs: [{ name: `${output}.${DOMAIN}.replaced` }] },
    },
  })
  nodes.push(...again)
  outputNode.graph.insertAfter(outputNode, nodes)
}

const INSTEAD = new RegExp(`^(.*?)\\.${DOMAIN}\\.instead\\.`, 's')

/** What the residual connection of a layer, or a quantised operator behind it, reads instead of `name`. */
function insteadName(name: string, suffix: string): string {
  return `${name}.${DOMAIN}.instead.${suffix}`
}

/** What a node read instead of `name` before a branch came between. */
export function withoutInstead(name: string): string {
  return INSTEAD.exec(name)?.[1] ?? name
}

/** Or half of it: all that is attached has such a name, and nothing else may have one. */
function isAttached({ opsetImports, metadata, functions, graph }: OnnxModel): boolean {
  const isOurs = (name: string) => name.startsWith(`${DOMAIN}.`) || name.includes(`.${DOMAIN}.`)
  return (
    opsetImports.has(DOMAIN) ||
    metadata.has(ORIGINAL) ||
    functions.some(({ domain }) => domain === DOMAIN) ||
    graph
      .graphs()
      .some(
        ({ nodes, inputs, initializers }) =>
          nodes.some(({ outputs }) => outputs.some(isOurs)) ||
          inputs.some(({ name }) => isOurs(name)) ||
          [...initializers.keys()].some(isOurs),
      )
  )
}

/** The opset of the model. */
function check(model: OnnxModel, branches: readonly Branch[], replaceable: readonly Replaceable[]): number {
  const { file } = model
  const opset = model.opsetImports.get('') ?? 0
  if (opset < LOWEST_OPSET)
    throw new FourierFTError(
      'UNSUPPORTED',
      `${file} is of ONNX's opset ${opset}; adapters need ${LOWEST_OPSET} or later. Export the model again with a later opset.`,
      { file, expected: LOWEST_OPSET, received: opset },
    )
  if (isAttached(model))
    throw new FourierFTError(
      'INVALID_STATE',
      `${file} has adapters attached already; detachBranches takes them out, or attach to the original file.`,
      { file },
    )
  if (branches.length === 0 && replaceable.length === 0)
    throw new FourierFTError(
      'INVALID_OPTION',
      `${file}: there is nothing to attach; name at least one layer.`,
      {
        file,
        option: 'branches',
      },
    )
  const taken = new Map<OnnxNode, Branch[]>()
  const modules = new Set<string>()
  for (const branch of branches) {
    const { module, layer, entries } = branch
    if (modules.has(module))
      throw new FourierFTError(
        'INVALID_OPTION',
        `${file}: module ${module} is given two layers; give each layer a name of its own.`,
        { file, module, option: 'branches' },
      )
    modules.add(module)
    const [d1, d2] = entries.shape
    if (d1 !== layer.outFeatures || d2 !== layer.inFeatures)
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `${file}: the layer of module ${module} is [${layer.outFeatures}, ${layer.inFeatures}] ([out, in]), its entries are of [${d1}, ${d2}].`,
        { file, module, expected: [layer.outFeatures, layer.inFeatures], received: entries.shape },
      )
    checkWeight(layer)
    if (isAttention(layer)) checkAttention(branch)
    for (const { outputNode, node } of productsOf(layer)) {
      const others = taken.get(outputNode) ?? []
      const other = others.find((one) => overlap(one.layer, layer))
      if (other !== undefined)
        throw new FourierFTError(
          'INVALID_OPTION',
          `${file}: the modules ${other.module} and ${module} are one layer, ${node.name}; give each its own.`,
          { file, module, received: node.name },
        )
      taken.set(outputNode, [...others, branch])
    }
  }
  const replaced = new Map<OnnxNode, string>()
  for (const { module, layer, hasFreeWidth } of replaceable) {
    checkWeight(layer)
    if (layer.part)
      throw new FourierFTError(
        'UNSUPPORTED',
        `${file}: the module ${module} shares node ${layer.node.name} with others, so that its weight cannot be replaced alone.`,
        { file, module, received: layer.node.name },
      )
    const products = productsOf(layer)
    const other = products.map(({ outputNode }) => replaced.get(outputNode)).find((one) => one !== undefined)
    if (other !== undefined)
      throw new FourierFTError(
        'INVALID_OPTION',
        `${file}: the modules ${other} and ${module} are one layer, ${layer.node.name}; give each its own.`,
        { file, module, received: layer.node.name },
      )
    if (hasFreeWidth && !valuesOfFreeWidth(layer))
      throw new FourierFTError(
        'UNSUPPORTED',
        `${file}: the output of module ${module} (${layer.node.name}) goes through operators that need its ${layer.outFeatures} features; it cannot have another number of them.`,
        { file, module, expected: layer.outFeatures },
      )
    for (const { outputNode } of products) replaced.set(outputNode, module)
    const odd = products.find((product) => (biasOf(product) === undefined) !== (biasOf(layer) === undefined))
    if (odd !== undefined)
      throw new FourierFTError(
        'UNSUPPORTED',
        `${file}: the module ${module} has a bias at only one of the nodes ${layer.node.name} and ${odd.node.name}, so that its weight and bias cannot be replaced. Export the model again without optimisations.`,
        { file, module, received: odd.node.name },
      )
  }
  return opset
}

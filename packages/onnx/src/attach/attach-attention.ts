/**
 * Branches on q, k and v of a `com.microsoft` `Attention`, which computes the products itself. An `If` replaces the node. Without adapters it
 * runs the original node. Otherwise it computes q, k and v with the same weight, adds their branches, and runs `MultiHeadAttention`.
 *
 * @see Attention and MultiHeadAttention in ONNX Runtime's docs/ContribOperators.md
 */
import { FourierFTError } from '@fourierft/core'
import { activationType } from '../layers/activation-type.js'
import type { LinearLayer } from '../layers/linear-layer.js'
import { copiedAttributes } from '../model/attribute.js'
import type { OnnxNode } from '../model/graph.js'
import { NodeList } from '../model/node-list.js'
import { DataType } from '../model/schema.js'
import { DOMAIN } from './functions/branch-function.js'

/** A branch on q, k or v. */
export interface PartBranch {
  readonly layer: LinearLayer
  /** The inputs of a `FourierFT` node after `x` and `base`; the coefficients come first. */
  readonly inputs: readonly string[]
}

/** The attributes that both operators have. */
const SHARED_ATTRIBUTES: readonly string[] = ['mask_filter_value', 'scale', 'num_heads', 'unidirectional']

/** Whether the layer is a part of a `com.microsoft` `Attention`, as `findPackedLayers` finds them. */
export function isAttention({ node }: LinearLayer): boolean {
  return node.opType === 'Attention' && node.domain === 'com.microsoft'
}

/** @throws {FourierFTError} `UNSUPPORTED` if the `Attention` uses an option that `MultiHeadAttention` does not have */
export function checkAttention({ layer, module }: { layer: LinearLayer; module: string }): void {
  const { node } = layer
  const { attributes } = node
  const [, , , mask, , , pastLength] = node.inputs
  const maskRank = mask === undefined || mask === '' ? undefined : node.graph.valueInfo(mask)?.dims?.length
  const problems = [
    attributes.get('do_rotary')?.int ? 'rotates q and k itself (do_rotary)' : [],
    pastLength || attributes.get('past_present_share_buffer')?.int
      ? 'keeps past and present in one buffer (past_present_share_buffer)'
      : [],
    maskRank === 4 ? `has a mask of 4 dimensions (${mask})` : [],
  ].flat()
  if (problems.length > 0)
    throw new FourierFTError(
      'UNSUPPORTED',
      `${node.graph.file}: the module ${module} is inside node ${node.name} (com.microsoft:Attention), which ${problems.join(' and ')}, so no branch can be added to its q, k and v`,
      {
        file: node.graph.file,
        module,
        received: node.name,
        advice:
          'export the model without this fusion (--disable_attention of onnxruntime.transformers.optimizer), or bake the adapter with bakeBranches',
      },
    )
}

/**
 * Replaces the `Attention` with an `If`.
 *
 * @param parts the branches on the node's q, k and v, at least one
 */
export function attachToAttention(node: OnnxNode, parts: readonly PartBranch[]): void {
  const { graph } = node
  const [output = '', present] = node.outputs
  const valueName = (name: string) => `${output}.${DOMAIN}.${name}`
  const nodes = new NodeList(valueName(''))
  const sizes = parts.map(({ inputs: [coefficients = ''] }) => nodes.add('Size', [coefficients]))
  const totalSize = sizes.reduce((sum, size) => nodes.add('Add', [sum, size]))
  const hasNoAdapters = nodes.add('Equal', [totalSize, nodes.constant([0], [])])

  // The node itself moves into the `If`; only the names of its outputs change.
  const kept = node.outputs.map((name, i) => {
    if (name !== '') node.setOutput(i, `${name}.${DOMAIN}.base`)
    return `${name}.${DOMAIN}.base`
  })
  const adapted = adaptedAttention(node, parts, valueName('with.'), present !== undefined && present !== '')
  const outputs = [output, ...(present ? [present] : [])]
  const outputInfos = (names: readonly string[]) => outputs.map((_, i) => ({ name: names[i] }))
  nodes.named(outputs, 'If', [hasNoAdapters], {
    then_branch: { graph: { name: 'own', moved: [node], nodes: [], outputs: outputInfos(kept) } },
    else_branch: { graph: { name: 'adapted', nodes: adapted.nodes, outputs: outputInfos(adapted.outputs) } },
  })
  graph.replaceNode(node, nodes.nodes)
}

function adaptedAttention(node: OnnxNode, parts: readonly PartBranch[], prefix: string, hasPresent: boolean) {
  const list = new NodeList(prefix)
  const { add, constant, named, nodes } = list
  const [x = '', weight = '', bias = '', mask = '', past = '', attentionBias = ''] = node.inputs
  const [{ layer }] = parts as [PartBranch]
  const type = activationType(layer)
  const isFloat = type === DataType.float
  const cast = (tensor: string, dataType: number) =>
    isFloat ? tensor : add('Cast', [tensor], { to: { int: dataType } })

  const product = add('MatMul', [x, weight])
  const packed = bias === '' ? product : add('Add', [product, bias])
  const xAsFloat = cast(x, DataType.float)
  const heads = partsOf(node, layer).map(({ name, offset, size }) => {
    const base = add('Slice', [packed, constant([offset]), constant([offset + size]), constant([-1])])
    const branch = parts.find(({ layer: { part } }) => part?.name === name)
    if (!branch) return base
    const sum = `${prefix}${name}`
    nodes.push({
      name: `${node.name || prefix}/${DOMAIN}.${name}`,
      opType: 'FourierFT',
      domain: DOMAIN,
      inputs: [xAsFloat, cast(base, DataType.float), ...branch.inputs],
      outputs: [sum],
    })
    return cast(sum, type)
  })

  const pasts = past === '' ? ['', ''] : [0, 1].map((i) => add('Gather', [past, constant([i], [])]))
  const inputs = [...heads, '', mask, attentionBias, ...pasts]
  const result = `${prefix}output`
  const presents = hasPresent ? [`${prefix}key`, `${prefix}value`] : []
  nodes.push({
    name: `${node.name || prefix}/MultiHeadAttention`,
    opType: 'MultiHeadAttention',
    domain: 'com.microsoft',
    inputs: inputs.slice(0, inputs.findLastIndex((input) => input !== '') + 1),
    outputs: [result, ...presents],
    attributes: copiedAttributes(
      [...node.attributes.values()].filter(({ name }) => SHARED_ATTRIBUTES.includes(name)),
    ),
  })
  if (!hasPresent) return { nodes, outputs: [result] }
  const stacked = presents.map((tensor) => list.reshape(tensor, [constant([1]), add('Shape', [tensor])]))
  named([`${prefix}present`], 'Concat', stacked, { axis: { int: 0 } })
  return { nodes, outputs: [result, `${prefix}present`] }
}

/** Returns the range of features of q, k and v in the packed product. */
function partsOf(node: OnnxNode, { part }: LinearLayer) {
  const width = part?.width ?? 0
  const sizes = Array.from(node.attribute('qkv_hidden_sizes')?.ints ?? [], Number)
  const [q, k, v] = (sizes.length === 3 ? sizes : [width / 3, width / 3, width / 3]) as [
    number,
    number,
    number,
  ]
  return [
    { name: 'q', offset: 0, size: q },
    { name: 'k', offset: q, size: k },
    { name: 'v', offset: q + k, size: v },
  ] as const
}

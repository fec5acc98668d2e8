/** Checks that branches and replaceable layers can be attached to a model, before the model is edited. */
import { FourierFTError } from '@fourierft/core'
import { checkWeight } from '../layers/check-weight.js'
import { biasOf } from '../layers/layer-bias.js'
import { overlap } from '../layers/linear-layer.js'
import { productsOf } from '../layers/products.js'
import { valuesOfFreeWidth } from '../layers/resizable-head.js'
import type { OnnxNode } from '../model/graph.js'
import type { OnnxModel } from '../model/model.js'
import { checkAttention, isAttention } from './attach-attention.js'
import type { Branch } from './branch.js'
import { DOMAIN } from './functions/branch-function.js'
import type { Replaceable } from './replaceable-layer.js'

/** The key of the metadata entry that keeps, as JSON, the data of the original file that `detachBranches` needs: {@link Original}. */
export const ORIGINAL_METADATA_KEY = `${DOMAIN}.original`

/** Data of the original file. */
export interface Original {
  /** The size of the original file in bytes. */
  readonly size: number
  readonly irVersion: number
  /** The size of the file with everything attached except this metadata entry. */
  readonly attachedSize: number
}

/** The first opset with the standard operators that the function of a branch uses. */
const LOWEST_OPSET = 11

/**
 * @returns the model's opset
 * @throws {FourierFTError} see `attachBranches`
 */
export function checkAttachable(
  model: OnnxModel,
  branches: readonly Branch[],
  replaceable: readonly Replaceable[],
): number {
  const { file } = model
  const opset = model.opsetImports.get('') ?? 0
  if (opset < LOWEST_OPSET)
    throw new FourierFTError(
      'UNSUPPORTED',
      `${file} has opset ${opset}; adapters need ${LOWEST_OPSET} or later`,
      {
        file,
        expected: LOWEST_OPSET,
        received: opset,
        advice: 'export the model again with a later opset',
      },
    )
  if (isAttached(model))
    throw new FourierFTError('INVALID_STATE', `${file} already has adapters attached`, {
      file,
      advice: 'remove them with detachBranches, or attach to the original file',
    })
  if (branches.length === 0 && replaceable.length === 0)
    throw new FourierFTError(
      'INVALID_OPTION',
      `${file}: branches: expected at least one layer to attach to; received none`,
      { file, option: 'branches' },
    )
  checkBranches(file, branches)
  checkReplaceable(file, replaceable)
  return opset
}

/** Whether anything in the model has a name that only `attachBranches` gives. So the remains of an earlier attachment also count. */
function isAttached({ opsetImports, metadata, functions, graph }: OnnxModel): boolean {
  const isAttachedName = (name: string) => name.startsWith(`${DOMAIN}.`) || name.includes(`.${DOMAIN}.`)
  return (
    opsetImports.has(DOMAIN) ||
    metadata.has(ORIGINAL_METADATA_KEY) ||
    functions.some(({ domain }) => domain === DOMAIN) ||
    graph
      .graphs()
      .some(
        ({ nodes, inputs, initializers }) =>
          nodes.some(({ outputs }) => outputs.some(isAttachedName)) ||
          inputs.some(({ name }) => isAttachedName(name)) ||
          [...initializers.keys()].some(isAttachedName),
      )
  )
}

function checkBranches(file: string, branches: readonly Branch[]): void {
  const byOutput = new Map<OnnxNode, Branch[]>()
  const modules = new Set<string>()
  for (const branch of branches) {
    const { module, layer, entries } = branch
    if (modules.has(module))
      throw new FourierFTError('INVALID_OPTION', `${file}: two layers have the module name ${module}`, {
        file,
        module,
        option: 'branches',
        advice: 'give each layer its own name',
      })
    modules.add(module)
    const [d1, d2] = entries.shape
    if (d1 !== layer.outFeatures || d2 !== layer.inFeatures)
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `${file}: the layer of module ${module} is [${layer.outFeatures}, ${layer.inFeatures}] ([out, in]), but the shape of its entries is [${d1}, ${d2}]`,
        { file, module, expected: [layer.outFeatures, layer.inFeatures], received: entries.shape },
      )
    checkWeight(layer)
    if (isAttention(layer)) checkAttention(branch)
    for (const { outputNode, node } of productsOf(layer)) {
      const others = byOutput.get(outputNode) ?? []
      const other = others.find((candidate) => overlap(candidate.layer, layer))
      if (other !== undefined) throw sameLayer(file, [other.module, module], node)
      byOutput.set(outputNode, [...others, branch])
    }
  }
}

function checkReplaceable(file: string, replaceable: readonly Replaceable[]): void {
  const modules = new Map<OnnxNode, string>()
  for (const { module, layer, hasFreeWidth } of replaceable) {
    checkWeight(layer)
    if (layer.part)
      throw new FourierFTError(
        'UNSUPPORTED',
        `${file}: the module ${module} shares node ${layer.node.name} with others, so its weight cannot be replaced separately`,
        { file, module, received: layer.node.name },
      )
    const products = productsOf(layer)
    const other = products.map(({ outputNode }) => modules.get(outputNode)).find((name) => name !== undefined)
    if (other !== undefined) throw sameLayer(file, [other, module], layer.node)
    if (hasFreeWidth && !valuesOfFreeWidth(layer))
      throw new FourierFTError(
        'UNSUPPORTED',
        `${file}: operators after module ${module} (${layer.node.name}) require its ${layer.outFeatures} output features, so that number cannot change`,
        { file, module, expected: layer.outFeatures },
      )
    for (const { outputNode } of products) modules.set(outputNode, module)
    const hasBias = (product: typeof layer) => biasOf(product) !== undefined
    const different = products.find((product) => hasBias(product) !== hasBias(layer))
    if (different !== undefined)
      throw new FourierFTError(
        'UNSUPPORTED',
        `${file}: the module ${module} has a bias at only one of the nodes ${layer.node.name} and ${different.node.name}, so its weight and bias cannot be replaced`,
        {
          file,
          module,
          received: different.node.name,
          advice: 'export the model again without optimisations',
        },
      )
  }
}

function sameLayer(file: string, [a, b]: readonly [string, string], node: OnnxNode): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `${file}: the modules ${a} and ${b} are one layer, ${node.name}`,
    {
      file,
      module: b,
      received: node.name,
      advice: 'give each module its own layer',
    },
  )
}

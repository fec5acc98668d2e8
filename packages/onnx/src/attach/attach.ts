/**
 * Makes a model ready for adapters: adds a `FourierFT` node after each given layer. Its coefficients, and the adapter of each row, become
 * new inputs of the graph. The weights do not change. Without adapters the model gives its original output, bit for bit.
 */
import { entriesDigest } from '@fourierft/core'
import type { LinearLayer } from '../layers/linear-layer.js'
import { productsOf } from '../layers/products.js'
import type { OnnxNode } from '../model/graph.js'
import type { OnnxModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { batchAxes, findRows, type RowPosition } from '../shapes/batch-axis.js'
import { attachToAttention, isAttention, type PartBranch } from './attach-attention.js'
import { type Branch, insertBranch } from './branch.js'
import { checkAttachable, ORIGINAL_METADATA_KEY } from './check-attachable.js'
import { branchFunction, DOMAIN } from './functions/branch-function.js'
import { branchTables, TABLE_NAMES } from './functions/branch-tables.js'
import { makeReplaceable, type Replaceable, type WeightInputs } from './replaceable-layer.js'

export interface AttachOptions {
  /** Layers whose weight and bias can be replaced by adapters. */
  readonly replaceable?: readonly Replaceable[]
}

/** The new inputs of an attached model. */
export interface AttachedInputs {
  /**
   * int64 `[R]`: the adapter of each of R equal parts of the batch, as an index into the coefficients. −1 means no adapter: in the
   * portable function it selects the last of the A coefficient vectors, which must be zero.
   */
  readonly rows: string
  /** Input of the model → its batch axis. */
  readonly batchAxes: ReadonlyMap<string, number>
  /** Modules, of branches and of replaceable layers, whose layer's input has no batch axis, or an unknown one. Feed one row for the whole batch, R = 1. */
  readonly rowless: ReadonlyMap<string, Rowless>
  /** Module name → float32 `[A, n]`, each adapter's α·c; `[0, n]` for no adapters. */
  readonly coefficients: ReadonlyMap<string, string>
  /** Module name of a replaceable layer → its inputs. */
  readonly weights: ReadonlyMap<string, WeightInputs>
}

export interface Rowless {
  /** The name of the product whose input has no known batch axis. */
  readonly node: string
  /** `none`: the product's input is the same for all rows. `unknown`: the batch axis cannot be found from the graph. */
  readonly position: 'none' | 'unknown'
}

/**
 * Adds the branches to the model. In float16 and bfloat16 layers a branch computes in float32 and rounds once.
 *
 * @throws {FourierFTError} `UNSUPPORTED` (opset below 11), `SHAPE_MISMATCH`, `INVALID_STATE` (attached already), `INVALID_OPTION` (no
 *   branches, two branches for one layer, or two modules of the same name). The model is then unchanged.
 */
export function attachBranches(
  model: OnnxModel,
  branches: readonly Branch[],
  { replaceable = [] }: AttachOptions = {},
): AttachedInputs {
  const opset = checkAttachable(model, branches, replaceable)
  // Some faults of a broken file appear only during an edit. The transaction then restores the model.
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
  const axes = batchAxes(model.graph.inputs)
  const located = locateProducts(model, [branches, replaceable])
  const [ofBranches, ofReplaceable] = located
  model.raiseIrVersion(8)
  model.addOpsetImport(DOMAIN, 1)
  model.addFunction(branchFunction(opset))
  model.graph.addInput({ name: rows, dataType: DataType.int64, dims: [`${DOMAIN}_rows`] })

  const attentions = new Map<OnnxNode, PartBranch[]>()
  const prefixes = new Map<string, string>()
  const coefficients = new Map<string, string>()
  for (const { module, entries } of branches) {
    const digest = `${entries.shape.join('x')}:${entriesDigest(entries)}`
    const existingPrefix = prefixes.get(digest)
    const prefix = existingPrefix ?? `${DOMAIN}.${prefixes.size}.`
    if (existingPrefix === undefined) {
      prefixes.set(digest, prefix)
      for (const table of branchTables(entries, prefix)) model.graph.addInitializer(table)
    }
    const input = `${DOMAIN}.${module}`
    model.graph.addInput({ name: input, dataType: DataType.float, dims: [`${DOMAIN}_adapters`, entries.n] })
    coefficients.set(module, input)
    const inputs = [input, rows, ...TABLE_NAMES.map((table) => prefix + table)]
    for (const { layer, position } of ofBranches.get(module) ?? []) {
      const parts = attentions.get(layer.node)
      if (parts) parts.push({ layer, inputs })
      else if (isAttention(layer)) attentions.set(layer.node, [{ layer, inputs }])
      else insertBranch(layer, { inputs, position })
    }
  }
  for (const [node, parts] of attentions) attachToAttention(node, parts)
  // Must come last: an insertion goes directly after the layer, so the output of the replaced weight feeds the branches inserted before.
  const weights = new Map(
    replaceable.map((layer) => [
      layer.module,
      makeReplaceable(model, layer, ofReplaceable.get(layer.module) ?? []),
    ]),
  )
  model.addMetadata(ORIGINAL_METADATA_KEY, JSON.stringify({ size, irVersion, attachedSize: model.size }))
  return { rows, batchAxes: axes, rowless: rowlessModules(located), coefficients, weights }
}

/** A product, and the position of the rows in its input. */
interface LocatedProduct {
  readonly layer: LinearLayer
  readonly position: RowPosition
}

type ProductsByModule = ReadonlyMap<string, readonly LocatedProduct[]>

/** Finds the products of branches, and those of replaceable layers, and the positions of their rows, before the first edit. */
function locateProducts(
  model: OnnxModel,
  [branches, replaceable]: readonly [readonly Branch[], readonly Replaceable[]],
): readonly [ProductsByModule, ProductsByModule] {
  const positionOf = findRows(model)
  const locate = ({ module, layer }: Branch | Replaceable) => {
    const products = productsOf(layer).map((product) => {
      const position = positionOf(product)
      const isUnsupportedPosition = isAttention(product) && position !== 'first' && position !== 'none'
      return { layer: product, position: isUnsupportedPosition ? ('unknown' as const) : position }
    })
    return [module, products] as const
  }
  return [new Map(branches.map(locate)), new Map(replaceable.map(locate))]
}

function rowlessModules(located: readonly ProductsByModule[]): Map<string, Rowless> {
  const rowless = new Map<string, Rowless>()
  for (const productsByModule of located)
    for (const [module, products] of productsByModule)
      for (const { layer, position } of products)
        if (position === 'none' || position === 'unknown')
          rowless.set(module, { node: layer.node.name, position })
  return rowless
}

/**
 * Lowers the cost of the branches of an attached model while no adapter is active, for runtimes that run on the CPU.
 *
 * - A runtime needs microseconds to feed one input, however small it is. All modules with the same number of entries share their inputs for
 *   coefficients, and a `Split` computes the old inputs.
 * - The portable function decides for each branch whether it has coefficients. One `If` for each branch, with one condition for the whole model,
 *   skips these decisions while there are no coefficients at all.
 */
import type { OnnxGraph } from '../model/graph.js'
import type { OnnxModel } from '../model/model.js'
import { NodeList } from '../model/node-list.js'
import { DataType } from '../model/schema.js'
import { DOMAIN } from './functions/branch-function.js'

/** Two inputs with the coefficients of all modules whose branches have the same number of entries, n. */
export interface JoinedCoefficients {
  readonly n: number
  /** float32 `[ΣA, n]`: the coefficients of the modules, one after another, each `[A, n]`. */
  readonly values: string
  /** int64 `[M]`: A for each module; 0 for no adapters. */
  readonly counts: string
  /** The M modules, in order. */
  readonly modules: readonly string[]
}

export interface JoinOptions {
  /** Whether the runtime computes branches with the portable function. */
  readonly isPortable: boolean
}

/** The first opset in which the sizes of a `Split` are an input. */
const SPLIT_SIZES_AS_INPUT = 13
const PREFIX = `${DOMAIN}.joined.`

/**
 * Replaces the inputs for coefficients by two inputs for each n. On a GPU a `Split` can have only a few outputs: join only for the CPU.
 *
 * `detachBranches` and `makeTrainingGraph` need the model as it was before.
 *
 * @param coefficients module → its input, as `attachBranches` returns them
 * @returns undefined if the opset is below 13; the model is then unchanged
 */
export function joinCoefficients(
  model: OnnxModel,
  coefficients: ReadonlyMap<string, string>,
  { isPortable }: JoinOptions,
): readonly JoinedCoefficients[] | undefined {
  const { graph } = model
  const [first] = graph.nodes
  if ((model.opsetImports.get('') ?? 0) < SPLIT_SIZES_AS_INPUT || !first) return undefined
  const groups = modulesByN(graph, coefficients)
  return model.transaction(() => {
    graph.removeInputs(new Set(coefficients.values()))
    const list = new NodeList(PREFIX)
    const joined = Array.from(groups, ([n, modules]) => {
      const values = `${PREFIX}${n}`
      const counts = `${values}.counts`
      graph.addInput({ name: values, dataType: DataType.float, dims: [`${DOMAIN}_vectors_${n}`, n] })
      graph.addInput({ name: counts, dataType: DataType.int64, dims: [modules.length] })
      const outputs = modules.map((module) => coefficients.get(module) as string)
      list.named(outputs, 'Split', [values, counts])
      return { n, values, counts, modules }
    })
    if (isPortable && joined.length > 0) {
      const sizes = joined.map(({ values }) => list.add('Size', [values]))
      const total = sizes.reduce((sum, size) => list.add('Add', [sum, size]))
      skipBranches(graph, list.add('Equal', [total, list.constant([0], [])]))
    }
    graph.insertBefore(graph.nodes[0] ?? first, list.nodes)
    return joined
  })
}

function modulesByN(graph: OnnxGraph, coefficients: ReadonlyMap<string, string>): Map<number, string[]> {
  const dims = new Map(graph.inputs.map((input) => [input.name, input.dims]))
  const groups = new Map<number, string[]>()
  for (const [module, input] of coefficients) {
    const n = dims.get(input)?.[1] as number
    groups.set(n, [...(groups.get(n) ?? []), module])
  }
  return groups
}

/** Moves the nodes of branches into an `If` that gives the base output if `condition` is true. */
function skipBranches(graph: OnnxGraph, condition: string): void {
  for (const node of graph.nodes) {
    if (node.domain !== DOMAIN) continue
    const [, base = ''] = node.inputs
    const [output = ''] = node.outputs
    const [same, sum] = [`${output}.${DOMAIN}.same`, `${output}.${DOMAIN}.sum`] as const
    node.setOutput(0, sum)
    const identity = { opType: 'Identity', inputs: [base], outputs: [same] }
    graph.replaceNode(node, [
      {
        opType: 'If',
        inputs: [condition],
        outputs: [output],
        attributes: {
          then_branch: { graph: { name: 'skipped', nodes: [identity], outputs: [{ name: same }] } },
          else_branch: { graph: { name: 'branch', moved: [node], nodes: [], outputs: [{ name: sum }] } },
        },
      },
    ])
  }
}

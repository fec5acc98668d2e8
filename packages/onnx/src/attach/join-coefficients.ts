/**
 * Joins the inputs for coefficients of an attached model. A runtime needs microseconds to feed one input, however small it is; with one input for
 * each module, feeding takes longer than the branches do without adapters.
 */
import type { OnnxModel } from '../model/model.js'
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

/** The first opset in which the sizes of a `Split` are an input. */
const SPLIT_SIZES_AS_INPUT = 13

/**
 * Replaces the inputs for coefficients by two inputs for each n, and adds a `Split` that computes the old inputs. Only for runtimes that run on the
 * CPU: on a GPU, a `Split` can only have a few outputs.
 *
 * @param coefficients module → its input, as `attachBranches` returns them
 * @returns undefined if nothing was joined, because there are few modules or the opset is below 13
 */
export function joinCoefficients(
  model: OnnxModel,
  coefficients: ReadonlyMap<string, string>,
): readonly JoinedCoefficients[] | undefined {
  const { graph } = model
  const [first] = graph.nodes
  if ((model.opsetImports.get('') ?? 0) < SPLIT_SIZES_AS_INPUT || !first) return undefined
  const dims = new Map(graph.inputs.map((input) => [input.name, input.dims]))
  const groups = new Map<number, string[]>()
  for (const [module, input] of coefficients) {
    const n = dims.get(input)?.[1] as number
    groups.set(n, [...(groups.get(n) ?? []), module])
  }
  if (2 * groups.size >= coefficients.size) return undefined
  return model.transaction(() => {
    graph.removeInputs(new Set(coefficients.values()))
    return Array.from(groups, ([n, modules]) => {
      const values = `${DOMAIN}.joined.${n}`
      const counts = `${values}.counts`
      const outputs = modules.map((module) => coefficients.get(module) as string)
      graph.addInput({ name: values, dataType: DataType.float, dims: [`${DOMAIN}_vectors_${n}`, n] })
      graph.addInput({ name: counts, dataType: DataType.int64, dims: [modules.length] })
      graph.insertBefore(first, [{ opType: 'Split', inputs: [values, counts], outputs }])
      return { n, values, counts, modules }
    })
  })
}

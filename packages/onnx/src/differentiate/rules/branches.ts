/** The branches that `attachBranches` adds: `FourierFT`, with the gradient operator `FourierFTGrad`. */
import { explicitEntries, FourierFTError } from '@fourierft/core'
import { DOMAIN } from '../../attach/functions/branch-function.js'
import { GRADIENT_TABLE_NAMES, gradientTables } from '../../attach/functions/branch-tables.js'
import { integersOf } from '../../model/tensor.js'
import type { RuleCall, RuleResult, RuleTable } from '../rule.js'

export const BRANCH_RULES: RuleTable = [[`${DOMAIN}:FourierFT`, branch]]

/** y = base + Δy. @see gradientFunction */
function branch({ node, inputs, needs, gradient, backward }: RuleCall): RuleResult {
  const [x, , coefficients, rows, entries] = inputs as [string, string, string, string, string]
  const { graph } = backward
  const prefix = entries.slice(0, -'entries'.length)
  const positions = graph.initializers.get(entries)
  const numbers = positions && integersOf(positions)
  const n = positions?.dims[1] ?? 0
  const sizes = (table: string) => graph.initializers.get(prefix + table)?.dims ?? []
  // The tables w1 [2G, A], m2 [G, 2m, 2B] analyse A·B features, and n1 [G, 2B, 2m], w1i [A, 2G] synthesise them.
  const inFeatures = ((sizes('w1')[1] ?? 0) * (sizes('m2')[2] ?? 0)) / 2
  const outFeatures = ((sizes('w1i')[0] ?? 0) * (sizes('n1')[1] ?? 0)) / 2
  if (!numbers || inFeatures === 0 || outFeatures === 0)
    throw new FourierFTError(
      'UNSUPPORTED',
      `${graph.file}: the tables of the branch ${JSON.stringify(node.name)} are missing`,
      { file: graph.file, received: node.name, advice: 'attach the branches with attachBranches' },
    )
  const tables = GRADIENT_TABLE_NAMES.map((name) => prefix + name)
  // Layers with equal entries share their tables.
  if (!tables.every((name) => graph.initializers.has(name))) {
    const shape = [outFeatures, inFeatures] as const
    const recipe = { shape, rows: numbers.slice(0, n), columns: numbers.slice(n) }
    for (const table of gradientTables(explicitEntries(recipe), prefix))
      if (!graph.initializers.has(table.name)) graph.addInitializer(table)
  }
  const outputs = backward.newNames('FourierFTGrad', 2) as [string, string]
  const [gradientOfCoefficients, gradientOfX] = outputs
  // One node computes both gradients, when the gradient of x from all other nodes is known.
  const addTo = (base: string): string => {
    const nodeInputs = [x, gradient, base, coefficients, rows, ...tables]
    backward.nodes.push({
      name: gradientOfCoefficients,
      opType: 'FourierFTGrad',
      domain: DOMAIN,
      inputs: nodeInputs,
      outputs,
    })
    return gradientOfX
  }
  // Without it, any tensor of its shape will do.
  if (!needs(0)) addTo(x)
  return [needs(0) ? addTo : undefined, needs(1) ? gradient : undefined, gradientOfCoefficients]
}

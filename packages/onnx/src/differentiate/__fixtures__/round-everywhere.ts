/**
 * Makes ONNX Runtime's CPU provider round each value of a float16 graph, as devices with float16 do. By itself it computes chains of operators in
 * float32. `Reshape` is an operator that it has in float16: in a session without optimisations it keeps every value in its own type.
 */
import type { OnnxModel } from '../../model/model.js'

export const WITHOUT_OPTIMISATIONS = { graphOptimizationLevel: 'disabled' } as const

/** Adds a `Reshape` to the same shape after each node. */
export function roundEverywhere({ graph }: OnnxModel): void {
  for (const node of [...graph.nodes])
    for (const [i, output] of node.outputs.entries()) {
      if (output === '') continue
      const [exact, shape] = [`${output}.exact`, `${output}.shape`]
      node.setOutput(i, exact)
      graph.insertAfter(node, [
        { opType: 'Shape', inputs: [exact], outputs: [shape] },
        { opType: 'Reshape', inputs: [exact, shape], outputs: [output] },
      ])
    }
}

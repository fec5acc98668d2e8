/** Operators that give the same numbers another shape, or repeat them. */
import { type RuleCall, type RuleTable, rulesFor } from '../rule.js'

export const RESHAPING_RULES: RuleTable = [
  ...rulesFor('Reshape Flatten Squeeze Unsqueeze', ({ inputs, gradient, backward }) => [
    backward.reshapeLike(gradient, inputs[0]),
  ]),
  ['Transpose', transpose],
  [
    'Expand',
    ({ inputs, outputs, gradient, backward }) => [backward.undoBroadcast(gradient, outputs[0], inputs[0])],
  ],
  ['Tile', tile],
]

function transpose({ node, inputs, gradient, backward }: RuleCall): readonly string[] {
  const axes = Array.from(node.attribute('perm')?.ints ?? [], Number)
  // Without `perm` the order of the axes is reversed, which is its own inverse.
  if (axes.length === 0) return [backward.op('Transpose', [gradient])]
  const rank = backward.rankOf(inputs[0], node)
  return [
    backward.transpose(
      gradient,
      Array.from({ length: rank }, (_, axis) => axes.indexOf(axis)),
    ),
  ]
}

/** Each axis of size s that is repeated r times becomes two, [r, s]; the first is summed up. */
function tile({ node, inputs: [x, repeats], gradient, backward }: RuleCall): readonly string[] {
  const rank = backward.rankOf(x, node)
  const vector = (value: string) => backward.op('Reshape', [value, backward.integers([-1, 1])])
  const pairs = backward.op('Concat', [vector(repeats), vector(backward.shapeOf(x))], { axis: { int: 1 } })
  const split = backward.op('Reshape', [gradient, backward.op('Reshape', [pairs, backward.integers([-1])])])
  return [
    backward.sum(
      split,
      Array.from({ length: rank }, (_, axis) => 2 * axis),
      false,
    ),
  ]
}

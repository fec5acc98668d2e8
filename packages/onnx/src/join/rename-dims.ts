/** Renames the variable sizes of the values that a graph and the graphs inside it describe. */
import type { OnnxGraph } from '../model/graph.js'
import { Dimension, Graph, Shape, TensorType, Type, ValueInfo } from '../model/schema.js'
import { field, type WireField } from '../model/wire-message.js'

/** @param names new names, by the old ones */
export function renameDims(graph: OnnxGraph, names: ReadonlyMap<string, string>): void {
  if (names.size === 0) return
  for (const inner of graph.graphs())
    for (const number of [Graph.input, Graph.output, Graph.valueInfo])
      for (const value of inner.fields(number)) renameDimsOf(value, names, inner)
}

function renameDimsOf(value: WireField, names: ReadonlyMap<string, string>, where: OnnxGraph): void {
  const shape = value
    .editableMessage(where)
    .last(ValueInfo.type)
    ?.editableMessage(where)
    .last(Type.tensor)
    ?.editableMessage(where)
    .last(TensorType.shape)
    ?.editableMessage(where)
  for (const one of shape?.all(Shape.dim) ?? []) {
    const dim = one.editableMessage(where)
    const old = dim.last(Dimension.parameter)
    const name = old && names.get(old.text(where))
    if (old && name !== undefined) dim.replace(old, field(Dimension.parameter, name))
  }
}

/** Copies of nodes, with other names. */

import type { ExistingNode } from './encode.js'
import { payloadOf } from './function-body.js'
import type { OnnxNode } from './graph.js'
import { renameNode, renameValues } from './rename-values.js'
import { Graph } from './schema.js'
import { field } from './wire-message.js'

/**
 * Copies a node, to be inserted into its graph.
 *
 * @param names the new names of values that the node reads or writes
 */
export function copyNode(node: OnnxNode, name: string, names: ReadonlyMap<string, string>): ExistingNode {
  const copy = field(Graph.node, payloadOf(node.field))
  const message = copy.editableMessage(node)
  renameValues(message, names, node)
  renameNode(message, () => name)
  return { field: copy }
}

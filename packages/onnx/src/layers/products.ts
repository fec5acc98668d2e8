/** The products of a layer, and the labels with which users name them. A layer has several if the model calls its module more than once. */
import type { LinearLayer } from './linear-layer.js'

/** Returns all products of the layer, in the order of the file. */
export function productsOf({ others, ...first }: LinearLayer): readonly LinearLayer[] {
  return others ? [first, ...others] : [first]
}

/** Returns the label of the product in messages: its node, or the node's output if the node has no name; `node:q` for a part. */
export function labelOf({ node, part }: Pick<LinearLayer, 'node' | 'part'>): string {
  return `${node.name || node.outputs[0]}${part ? `:${part.name}` : ''}`
}

/** Returns all labels with which users may name the product: its node if that has a name, the node's output, and the weight. */
export function labelsOf({ node, weight, part }: LinearLayer): {
  readonly node: string | undefined
  readonly output: string
  readonly weight: string
} {
  const suffix = part ? `:${part.name}` : ''
  return {
    node: node.name === '' ? undefined : node.name + suffix,
    output: `${node.outputs[0]}${suffix}`,
    weight: weight + suffix,
  }
}

/** Joins products into one layer with the name of the first. */
export function joined(products: readonly LinearLayer[]): LinearLayer {
  const [first, ...others] = products as readonly [LinearLayer, ...LinearLayer[]]
  return others.length > 0 ? { ...first, others } : first
}

/** Which layers of TensorFlow.js can have adapters. */
import { convolutionLayer } from './convolution-layer.js'
import { denseLayer } from './dense-layer.js'
import { einsumDenseLayer } from './einsum-dense-layer.js'
import { embeddingLayer } from './embedding-layer.js'
import type { LayerKind } from './layer-kind.js'
import type { AnyLayer } from './layers-internals.js'

const KINDS: Readonly<Record<string, (layer: AnyLayer) => LayerKind | undefined>> = {
  Dense: denseLayer,
  Conv1D: convolutionLayer,
  Conv2D: convolutionLayer,
  EinsumDense: einsumDenseLayer,
  Embedding: embeddingLayer,
}

/** Them in words, for messages. */
export const ADAPTABLE: readonly string[] = [
  'Dense',
  'Conv1D and Conv2D that are not causal',
  'Embedding',
  "EinsumDense with a dense layer's equation such as 'abc,cde->abde' and a bias along its outputs, or none",
]

/**
 * The layer as one that adapters can change; undefined for all others, and for those that have no weights yet.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for a version of TensorFlow.js whose layers are made differently
 */
export function adaptableLayer(layer: AnyLayer): LayerKind | undefined {
  if (!layer.built) return undefined
  const name = layer.getClassName()
  return Object.hasOwn(KINDS, name) ? KINDS[name]?.(layer) : undefined
}

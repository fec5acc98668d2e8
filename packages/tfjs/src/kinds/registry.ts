/**
 * The kinds of layers that can have adapters, by the class names of TensorFlow.js. To add a kind, add a file to this folder and a line to
 * `KINDS`.
 */
import type { AnyLayer } from '../layers-internals.js'
import { convolutionKind } from './convolution.js'
import { denseKind } from './dense.js'
import { einsumDenseKind } from './einsum-dense.js'
import { embeddingKind } from './embedding.js'
import type { LayerKind } from './layer-kind.js'

const KINDS: Readonly<Record<string, (layer: AnyLayer) => LayerKind | undefined>> = {
  Dense: denseKind,
  Conv1D: convolutionKind,
  Conv2D: convolutionKind,
  EinsumDense: einsumDenseKind,
  Embedding: embeddingKind,
}

/** The layers that can have adapters, in words, for error messages. */
export const ADAPTABLE_LAYERS: readonly string[] = [
  'Dense',
  'Conv1D and Conv2D that are not causal',
  'Embedding',
  "EinsumDense with a dense layer's equation such as 'abc,cde->abde' and a bias over all output axes, or none",
]

/**
 * Returns the kind of a layer; undefined for layers that cannot have adapters and for layers that have no weights yet.
 *
 * @throws {FourierFTError} `UNSUPPORTED` if this version of TensorFlow.js builds the layer differently
 */
export function layerKindOf(layer: AnyLayer): LayerKind | undefined {
  if (!layer.built) return undefined
  const name = layer.getClassName()
  return Object.hasOwn(KINDS, name) ? KINDS[name]?.(layer) : undefined
}

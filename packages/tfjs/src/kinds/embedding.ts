/**
 * `Embedding`: a linear layer of one-hot tokens, `y = W' x`. Its adapter has the shape `[out, in]` = `[outputDim, inputDim]`. The layer
 * looks up rows of the kernel `[inputDim, outputDim]`. Of ΔWᵀ only these rows are computed, always with the `factored` strategy.
 */
import { add, cast, gather, reshape } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import { type AnyLayer, isWeight, layerFields } from '../layers-internals.js'
import { factoredLookup } from '../strategies/factored.js'
import { adapterOfEachToken, applyNormalised, type LayerKind } from './layer-kind.js'

interface EmbeddingParts {
  /** `[inputDim, outputDim]` */
  readonly embeddings: LayerVariable
}

export function embeddingKind(layer: AnyLayer): LayerKind {
  const { embeddings } = layerFields<EmbeddingParts>(layer, { embeddings: isWeight })
  const [inputs, outputs] = embeddings.shape as [number, number]
  return {
    shape: [outputs, inputs],
    kernel: embeddings,
    bias: null,
    isLinear: false,
    allowsAdapterPerRow: true,
    apply: (x, { kernel }, deltas, { tables }) => {
      const flat = reshape(cast(x, 'int32'), [x.size])
      const ids = flat.dataSync()
      const y = deltas.reduce(
        (sum, delta) => {
          const { entries } = delta.spec
          const rows = delta.rows && adapterOfEachToken(delta.rows, x.size)
          return add(
            sum,
            applyNormalised(delta, (c) => factoredLookup({ ids, c, rows, entries, tables })),
          )
        },
        gather(kernel, flat),
      )
      return reshape(y, [...x.shape, outputs])
    },
  }
}

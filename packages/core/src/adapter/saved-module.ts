/** Reads the weight and bias of a linear module that an adapter saves whole (`modules_to_save`), and checks them against the model's layer. */
import type { Shape } from '../entries/entries.js'
import { FourierFTError } from '../errors.js'
import { savedTensor } from '../files/peft-layout.js'
import { decodeFloats, isFloatDtype } from '../files/safetensors.js'
import type { Adapter } from './adapter.js'

/** The weight and bias that replace those of a layer. */
export interface SavedModule {
  /** `[out, in]`, row-major. */
  readonly weight: Float32Array
  /** `[out]`; undefined if the layer has no bias. */
  readonly bias: Float32Array | undefined
}

/** Checks whether the tensor is a head for another number of labels, and not the weight of another layer. */
function isResized(stored: readonly number[], expected: readonly number[] | undefined): boolean {
  return stored.length === 2 && expected?.length === 2 && stored[1] === expected[1]
}

/**
 * Reads the weight and bias of a module.
 *
 * @param layer the model's layer: the shape `[out, in]` of its weight, and whether it has a bias. With `hasFreeWidth` the file may contain
 *   another `out`, as a head with another number of labels does
 * @throws {FourierFTError} `SHAPE_MISMATCH`, `UNSUPPORTED_DTYPE` if the tensors are not floats, `INVALID_SAFETENSORS` if one is missing
 */
export function readSavedModule(
  { savedTensors }: Adapter,
  module: string,
  layer: { readonly shape: Shape; readonly hasBias: boolean; readonly hasFreeWidth?: boolean },
): SavedModule {
  const { hasBias, hasFreeWidth = false } = layer
  const [width = 0] = savedTensors.get(savedTensor(module, 'weight'))?.shape ?? []
  const shape: Shape = hasFreeWidth && width > 0 ? [width, layer.shape[1]] : layer.shape
  const read = (kind: 'weight' | 'bias', expected: readonly number[] | undefined) => {
    const tensor = savedTensor(module, kind)
    const stored = savedTensors.get(tensor)
    if (stored === undefined) {
      if (expected === undefined) return undefined
      throw new FourierFTError(
        'INVALID_SAFETENSORS',
        `tensor ${tensor} is missing, although the file contains the module's other tensor`,
        {
          tensor,
          module,
        },
      )
    }
    if (stored.shape.join() !== expected?.join())
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `tensor ${tensor}: expected ${expected ? `[${expected.join(', ')}]` : `no tensor, because layer '${module}' has no bias`}; ` +
          `received [${stored.shape.join(', ')}]` +
          (isResized(stored.shape, expected)
            ? '; this model cannot replace the layer by one of another size'
            : ''),
        { tensor, module, expected, received: stored.shape },
      )
    const { dtype, bytes } = stored
    if (!isFloatDtype(dtype))
      throw new FourierFTError('UNSUPPORTED_DTYPE', `tensor ${tensor}: expected floats; received ${dtype}`, {
        tensor,
        received: dtype,
      })
    return Float32Array.from(decodeFloats({ dtype, bytes }))
  }
  const weight = read('weight', shape) as Float32Array
  return { weight, bias: read('bias', hasBias ? [shape[0]] : undefined) }
}

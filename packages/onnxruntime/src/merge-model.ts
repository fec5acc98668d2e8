/** `mergeModel`: a copy of a model with adapters in its weights, to be saved. It runs everywhere, without this package. */
import { type Adapter, FourierFTError, rejectTrainedBiases } from '@fourierft/core'
import { byteLengthOf, type ExternalData, type OnnxModel, type ReadExternal } from '@fourierft/onnx'
import { bakeAdapters } from './adapter-slots.js'
import { findAdapterLayers } from './matched-layers.js'
import { ModelFile, type ModelSource, readBeside } from './model-source.js'
import { type ModuleNames, withoutAbsent } from './module-names.js'
import { matchAdapter } from './session-adapter.js'

export interface MergeModelOptions {
  readonly moduleNames?: ModuleNames
  /** The name of the file of external data, which has to be written beside the new model. Default: `model.onnx_data`. */
  readonly location?: string
}

export interface MergedModel {
  /** The new model file. */
  readonly bytes: Uint8Array
  /**
   * If the original model has external data: the new file for all of them, and its pieces in order. Unchanged weights are read from the original files
   * when their piece is requested.
   */
  readonly externalData?: { readonly location: string; readonly parts: AsyncIterable<Uint8Array> }
}

/** External data of up to this many bytes are stored in the model. */
const INLINE = 2 ** 20
/** The size of the pieces in which unchanged weights are copied. */
const PIECE = 2 ** 24
/** Lets runtimes map the data into memory. @see ONNX's docs/ExternalData.md */
const ALIGNMENT = 4096

/**
 * Adds adapters to the weights of a model: W + Σ ΔW, rounded once to the type of the stored weight, and the layers that the adapters replace. The model
 * itself is not changed.
 *
 * @param source a path (Node), URL, or the bytes of the model
 * @throws {FourierFTError} `UNSUPPORTED` for quantised layers, whose rounding would destroy ΔW, and for adapters that train biases;
 *   `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `NOT_FINITE`, `FILE_TOO_LARGE`, `FILE_NOT_FOUND`, `IO_ERROR`, `INVALID_ONNX`, `INVALID_OPTION`
 */
export async function mergeModel(
  source: ModelSource,
  adapters: Adapter | readonly Adapter[],
  { moduleNames = {}, location = 'model.onnx_data' }: MergeModelOptions = {},
): Promise<MergedModel> {
  const list = [adapters].flat() as readonly Adapter[]
  if (list.length === 0)
    throw new FourierFTError('INVALID_OPTION', 'adapters: expected at least one adapter; received none', {
      option: 'adapters',
    })
  const { model, ...beside } = await new ModelFile(source, { keepsWeightsInFile: false }).open()
  const readExternal: ReadExternal = (...range) => readBeside(...range, beside)
  const added = []
  for (const [i, adapter] of list.entries()) {
    const name = `adapter ${i + 1}`
    rejectTrainedBiases(name, adapter.config)
    const present = withoutAbsent(adapter, moduleNames)
    const layers = await findAdapterLayers(model, present, {
      moduleNames,
      readExternal,
      rename: (module) => module,
    })
    added.push({ adapter: matchAdapter(name, present, layers), scale: 1 })
  }
  // No file of the model has this name.
  const changedLocation = `${location}.changed`
  const changed = await bakeAdapters(model, added, {
    readExternal,
    inlineUpTo: INLINE,
    location: changedLocation,
  })
  const ranges = gatherExternalData(model, location)
  const bytes = model.toBytes()
  if (ranges.length === 0) return { bytes }
  const readRange: ReadExternal = (from, offset, length) =>
    from === changedLocation && changed
      ? bytesAt(changed.parts, offset, length)
      : readExternal(from, offset, length)
  return { bytes, externalData: { location, parts: piecesOf(ranges, readRange) } }
}

/** Data of the new file: zeros up to the alignment, then a range of a file. */
interface CopiedRange extends Required<ExternalData> {
  readonly length: number
  readonly padding: number
}

/** Moves all external data of the model to one file. @returns what the file contains, in order */
function gatherExternalData({ graph, file }: OnnxModel, location: string): readonly CopiedRange[] {
  const ranges: CopiedRange[] = []
  let end = 0
  for (const { initializers } of graph.graphs())
    for (const tensor of initializers.values()) {
      const { external } = tensor
      if (!external) continue
      const length = external.length ?? byteLengthOf(tensor)
      if (length === 0 && !tensor.dims.includes(0))
        throw new FourierFTError(
          'UNSUPPORTED',
          `${file}: tensor ${JSON.stringify(tensor.name)} has external data of unknown length`,
          { file, tensor: tensor.name, advice: 'save the model again with the lengths of its external data' },
        )
      const padding = (ALIGNMENT - (end % ALIGNMENT)) % ALIGNMENT
      ranges.push({ location: external.location, offset: external.offset, length, padding })
      tensor.setData({ location, offset: end + padding, length })
      end += padding + length
    }
  return ranges
}

async function* piecesOf(ranges: readonly CopiedRange[], read: ReadExternal): AsyncGenerator<Uint8Array> {
  for (const { location, offset, length, padding } of ranges) {
    if (padding > 0) yield new Uint8Array(padding)
    for (let start = 0; start < length; start += PIECE) {
      const size = Math.min(PIECE, length - start)
      const piece = await read(location, offset + start, size)
      if (piece.length !== size)
        throw new FourierFTError(
          'IO_ERROR',
          `${location}: expected ${size} bytes at ${offset + start}; received ${piece.length}: the file is cut off`,
          { file: location, expected: size, received: piece.length },
        )
      yield piece
    }
  }
}

/** Returns bytes of a file that is in memory in parts. The range lies in one part. */
function bytesAt(parts: readonly Uint8Array[], offset: number, length: number): Uint8Array {
  let start = 0
  for (const part of parts) {
    if (offset < start + part.length) return part.subarray(offset - start, offset - start + length)
    start += part.length
  }
  return new Uint8Array()
}

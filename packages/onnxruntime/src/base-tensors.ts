/**
 * `checkBaseTensors`: compares weights of the base model in an adapter's file with the weights of the model. PEFT saves the embeddings if they are
 * adapted or were resized.
 */
import {
  type Adapter,
  baseParameter,
  decodeFloats,
  type FloatDtype,
  FourierFTError,
  isFloatDtype,
  isOtherWeight,
  type Tensor,
} from '@fourierft/core'
import { DataType, type LinearLayer, matchLayers, type OnnxModel, type OnnxTensor } from '@fourierft/onnx'

const DTYPES: ReadonlyMap<number, FloatDtype> = new Map([
  [DataType.float, 'F32'],
  [DataType.float16, 'F16'],
  [DataType.bfloat16, 'BF16'],
])

/** The most numbers that are compared, in evenly spaced rows: the embeddings of a language model can have a billion numbers. */
const MAX_COMPARED = 2 ** 24

/**
 * Checks that an adapter belongs to this base model. Weights that cannot be found or compared (quantised or external ones) are assumed to be equal.
 *
 * @throws {FourierFTError} `UNSUPPORTED` if a weight of the model has another shape or other numbers
 */
export function checkBaseTensors(
  model: OnnxModel,
  layers: readonly LinearLayer[],
  { baseTensors }: Adapter,
): void {
  for (const [name, tensor] of baseTensors) {
    const parameter = baseParameter(name)
    if (!parameter) continue
    const { module, kind } = parameter
    const initializer = initializerOf(model, `${module}.${kind}`)
    const layer = kind === 'weight' && !initializer ? layerOf(layers, module) : undefined
    const found = initializer ?? layer?.graph.initializers.get(layer.weight)
    if (!found) continue
    const shape = layer ? [layer.outFeatures, layer.inFeatures] : found.dims
    // Exporters transpose the weights of some linear layers and keep their names.
    if (![shape.join(), shape.toReversed().join()].includes(tensor.shape.join())) {
      throw wrongBase(
        model,
        name,
        `has the shape [${tensor.shape.join(', ')}], but the model's weight has [${shape.join(', ')}]`,
      )
    }
    if (differs(tensor, found)) throw wrongBase(model, name, "contains other numbers than the model's weight")
  }
}

function wrongBase({ file }: OnnxModel, tensor: string, problem: string): FourierFTError {
  return new FourierFTError(
    'UNSUPPORTED',
    `${file}: tensor ${tensor} of the adapter, a weight of its base model, ${problem}: the adapter belongs to another base model`,
    { advice: 'export the model that the adapter was trained on', file, tensor },
  )
}

/** Finds a parameter by its name. Exporters write the name with or without the names of the enclosing modules. */
function initializerOf({ graph }: OnnxModel, name: string): OnnxTensor | undefined {
  const exact = graph.initializers.get(name)
  if (exact) return exact
  const names = [...graph.initializers.keys()].filter(
    (candidate) =>
      candidate.endsWith(`.${name}`) || (candidate.includes('.') && name.endsWith(`.${candidate}`)),
  )
  return names.length === 1 ? graph.initializers.get(names[0]) : undefined
}

function layerOf(layers: readonly LinearLayer[], module: string): LinearLayer | undefined {
  const found = matchLayers(layers, [module]).matched.get(module)
  return found?.part ? undefined : found
}

/** Returns whether the numbers differ. The model can contain the weight transposed. */
function differs(tensor: Tensor, initializer: OnnxTensor): boolean {
  const dtype = DTYPES.get(initializer.dataType)
  const bytes = dtype && isFloatDtype(tensor.dtype) ? initializer.data() : undefined
  if (!dtype || !bytes) return false
  const [rows = 1, columns = 1] = tensor.shape.length === 2 ? tensor.shape : [1, tensor.shape[0] ?? 1]
  const isEqual = (isTransposed: boolean) =>
    everyRow(rows, columns, (row) => {
      const expected = decodeRow(tensor, row, columns)
      const found = decodeFloats({ dtype, bytes: rowOf(bytes, row, rows, columns, isTransposed) })
      return !isOtherWeight(expected, found)
    })
  const [first] = initializer.dims
  const dimsFit = first === tensor.shape[0]
  return !((dimsFit && isEqual(false)) || ((!dimsFit || rows === columns) && isEqual(true)))
}

function everyRow(rows: number, columns: number, test: (row: number) => boolean): boolean {
  const step = Math.max(1, Math.ceil((rows * columns) / MAX_COMPARED))
  for (let row = 0; row < rows; row += step) if (!test(row)) return false
  return true
}

function decodeRow({ dtype, bytes, shape }: Tensor, row: number, columns: number): Float32Array {
  if (!isFloatDtype(dtype)) return new Float32Array()
  const width = bytes.length / shape.reduce((product, size) => product * size, 1)
  const rowBytes = bytes.subarray(row * columns * width, (row + 1) * columns * width)
  return Float32Array.from(decodeFloats({ dtype, bytes: rowBytes }))
}

function rowOf(
  bytes: Uint8Array,
  row: number,
  rows: number,
  columns: number,
  isTransposed: boolean,
): Uint8Array {
  const width = bytes.length / (rows * columns)
  if (!isTransposed) return bytes.subarray(row * columns * width, (row + 1) * columns * width)
  const gathered = new Uint8Array(columns * width)
  for (let i = 0; i < columns; i++) {
    const offset = (i * rows + row) * width
    gathered.set(bytes.subarray(offset, offset + width), i * width)
  }
  return gathered
}

/**
 * Weights of the base model in an adapter's file: PEFT saves the embeddings where they are adapted or were resized. Runtimes have the base
 * model's already, so these are only compared with what the model holds.
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

/** Of larger weights evenly spaced rows are compared: the embeddings of a language model have a billion numbers. */
const MAX_COMPARED = 2 ** 24
/**
 * What cannot be found or compared (quantised or external weights) is taken for the model's own.
 *
 * @throws {FourierFTError} `UNSUPPORTED` where a weight of the model has another shape or other numbers
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
    const own = initializerOf(model, `${module}.${kind}`)
    const layer = kind === 'weight' && !own ? layerOf(layers, module) : undefined
    const found = own ?? layer?.graph.initializers.get(layer.weight)
    if (!found) continue
    const shape = layer ? [layer.outFeatures, layer.inFeatures] : found.dims
    // Exporters transpose the weights of some linear layers and keep their names.
    if (![shape.join(), shape.toReversed().join()].includes(tensor.shape.join())) {
      throw another(
        model,
        name,
        `has the shape [${tensor.shape.join(', ')}], the model's own weight [${shape.join(', ')}]`,
      )
    }
    if (isAnother(tensor, found))
      throw another(model, name, "holds other numbers than the model's own weight")
  }
}

function another({ file }: OnnxModel, tensor: string, problem: string): FourierFTError {
  return new FourierFTError(
    'UNSUPPORTED',
    `${file}: tensor ${tensor} of the adapter, a weight of its base model, ${problem}: the adapter is of another base model. Export the ` +
      'model that it was trained on',
    { file, tensor },
  )
}

/** As exporters name parameters: by the module, with or without the names of what is around it. */
function initializerOf({ graph }: OnnxModel, name: string): OnnxTensor | undefined {
  const exact = graph.initializers.get(name)
  if (exact) return exact
  const named = [...graph.initializers.keys()].filter(
    (known) => known.endsWith(`.${name}`) || (known.includes('.') && name.endsWith(`.${known}`)),
  )
  return named.length === 1 ? graph.initializers.get(named[0]) : undefined
}

function layerOf(layers: readonly LinearLayer[], module: string): LinearLayer | undefined {
  const found = matchLayers(layers, [module]).matched.get(module)
  return found?.part ? undefined : found
}

/** The model may keep the weight transposed. */
function isAnother(tensor: Tensor, own: OnnxTensor): boolean {
  const dtype = DTYPES.get(own.dataType)
  const bytes = dtype && isFloatDtype(tensor.dtype) ? own.data() : undefined
  if (!dtype || !bytes) return false
  const [rows = 1, columns = 1] = tensor.shape.length === 2 ? tensor.shape : [1, tensor.shape[0] ?? 1]
  const isSame = (isTransposed: boolean) =>
    everyRow(rows, columns, (row) => {
      const wanted = decode(tensor, row, columns)
      const found = decodeFloats({ dtype, bytes: rowOf(bytes, row, rows, columns, isTransposed) })
      return !isOtherWeight(wanted, found)
    })
  const [first] = own.dims
  const dimsFit = first === tensor.shape[0]
  return !((dimsFit && isSame(false)) || ((!dimsFit || rows === columns) && isSame(true)))
}

function everyRow(rows: number, columns: number, test: (row: number) => boolean): boolean {
  const step = Math.max(1, Math.ceil((rows * columns) / MAX_COMPARED))
  for (let row = 0; row < rows; row += step) if (!test(row)) return false
  return true
}

function decode({ dtype, bytes, shape }: Tensor, row: number, columns: number): Float32Array {
  if (!isFloatDtype(dtype)) return new Float32Array()
  const width = bytes.length / shape.reduce((product, size) => product * size, 1)
  const part = bytes.subarray(row * columns * width, (row + 1) * columns * width)
  return Float32Array.from(decodeFloats({ dtype, bytes: part }))
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
    const at = (i * rows + row) * width
    gathered.set(bytes.subarray(at, at + width), i * width)
  }
  return gathered
}

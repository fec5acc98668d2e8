/**
 * The numbers of the fields of ONNX messages that this package reads or writes. All other fields are kept unread. Field numbers never
 * change.
 *
 * @see https://github.com/onnx/onnx/blob/v1.20.0/onnx/onnx.proto
 */
export const Model = { irVersion: 1, graph: 7, opsetImport: 8, metadata: 14, functions: 25 } as const
export const OperatorSet = { domain: 1, version: 2 } as const
export const Entry = { key: 1, value: 2 } as const
export const Graph = { node: 1, name: 2, initializer: 5, input: 11, output: 12, valueInfo: 13 } as const
export const Node = {
  input: 1,
  output: 2,
  name: 3,
  opType: 4,
  attribute: 5,
  domain: 7,
  metadata: 9,
} as const
export const Attribute = {
  name: 1,
  f: 2,
  i: 3,
  s: 4,
  t: 5,
  g: 6,
  floats: 7,
  ints: 8,
  strings: 9,
  graphs: 11,
  type: 20,
  reference: 21,
} as const
export const AttributeType = {
  float: 1,
  int: 2,
  string: 3,
  tensor: 4,
  graph: 5,
  floats: 6,
  ints: 7,
  strings: 8,
  tensors: 9,
  graphs: 10,
  sparseTensor: 11,
  sparseTensors: 12,
  typeProto: 13,
  typeProtos: 14,
} as const
export const Tensor = {
  dims: 1,
  dataType: 2,
  floatData: 4,
  int32Data: 5,
  int64Data: 7,
  name: 8,
  rawData: 9,
  doubleData: 10,
  external: 13,
  location: 14,
} as const
export const ValueInfo = { name: 1, type: 2 } as const
export const Type = { tensor: 1 } as const
export const TensorType = { elementType: 1, shape: 2 } as const
export const Shape = { dim: 1 } as const
export const Dimension = { value: 1, parameter: 2 } as const
export const LocalFunction = {
  name: 1,
  input: 4,
  output: 5,
  attribute: 6,
  node: 7,
  opsetImport: 9,
  domain: 10,
  attributeDefault: 11,
} as const

/** `TensorProto.DataType`. */
export const DataType = {
  float: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  double: 11,
  uint32: 12,
  uint64: 13,
  bfloat16: 16,
} as const

/** `TensorProto.DataLocation.EXTERNAL`. */
export const EXTERNAL = 1n

/** Table of contents of `@fourierft/onnx`. */
export {
  type AttachedInputs,
  type AttachOptions,
  attachBranches,
  type Branch,
  type Replaceable,
  type Rowless,
  type WeightInputs,
} from './attach.js'
export {
  type BakedLayer,
  type BakeOptions,
  bakeBranches,
  type ExternalFile,
  type ReadExternal,
  type WholeWeights,
} from './bake.js'
export { branchFunction, DOMAIN } from './branch-function.js'
export {
  branchTables,
  GRADIENT_TABLE_NAMES,
  type GradientTableName,
  gradientTables,
  TABLE_NAMES,
  type TableName,
} from './branch-tables.js'
export { checkWeight } from './check-weight.js'
export { type CreateModelOptions, createModel } from './create-model.js'
export { detachBranches } from './detach.js'
export type { NewAttribute, NewFunction, NewGraph, NewNode, NewTensor, NewValue } from './encode.js'
export { valuesOfFreeWidth } from './free-width.js'
export { gradientFunction } from './gradient-function.js'
export type { OnnxAttribute, OnnxGraph, OnnxNode, OnnxValue } from './graph.js'
export { biasOf, type LayerBias } from './layer-bias.js'
export { findLinearLayers, type LinearLayer, type PackedPart } from './linear-layers.js'
export {
  type MatchedLayers,
  type MatchOptions,
  mappedModules,
  matchLayers,
  type UnmatchedModule,
} from './match-layers.js'
export { type ModelData, modelBytes, type OnnxFunction, type OnnxModel, readModel } from './model.js'
export { isPart, wordsOf } from './model-parts.js'
export { type ModuleMap, readModuleMap } from './module-map.js'
export { findPackedLayers, packedParts } from './packed-layers.js'
export { decideProducts, joined, productsOf } from './products.js'
export { readLayer } from './read-layer.js'
export { type ModelFileOptions, type ReadAt, readModelFile } from './read-model-file.js'
export { DataType } from './schema.js'
export type { ExternalData, OnnxTensor } from './tensor.js'

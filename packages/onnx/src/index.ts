/** Table of contents of `@fourierft/onnx`. */
export {
  type AttachedInputs,
  type AttachOptions,
  attachBranches,
  type Rowless,
} from './attach/attach.js'
export { type BakeOptions, bakeBranches, type ExternalFile } from './attach/bake.js'
export type { Branch } from './attach/branch.js'
export { detachBranches } from './attach/detach.js'
export { branchFunction, DOMAIN } from './attach/functions/branch-function.js'
export {
  branchTables,
  GRADIENT_TABLE_NAMES,
  type GradientTableName,
  gradientTables,
  TABLE_NAMES,
  type TableName,
} from './attach/functions/branch-tables.js'
export { gradientFunction } from './attach/functions/gradient-function.js'
export {
  type JoinedCoefficients,
  type JoinOptions,
  joinCoefficients,
} from './attach/join-coefficients.js'
export type { Replaceable, WeightInputs } from './attach/replaceable-layer.js'
export type { BakedLayer } from './attach/weight-update.js'
export type { MemoryPolicy } from './differentiate/keep-or-recompute.js'
export { type CrossEntropyOptions, crossEntropy } from './differentiate/losses/cross-entropy.js'
export {
  type BuiltLoss,
  LABELS,
  LABELS_CHECK,
  type Loss,
  type LossContext,
  type LossNodes,
  PAIRS_CHECK,
} from './differentiate/losses/loss.js'
export {
  type ContrastiveOptions,
  contrastive,
  cosineSimilarity,
  type PairOptions,
} from './differentiate/losses/pairs.js'
export { binaryCrossEntropy, meanSquaredError } from './differentiate/losses/regression.js'
export { scalarLoss } from './differentiate/losses/scalar-loss.js'
export type { StepMemory } from './differentiate/step-memory.js'
export {
  makeTrainingGraph,
  type TrainingGraph,
  type TrainingGraphOptions,
} from './differentiate/training-graph.js'
export { addHead } from './heads/add-head.js'
export { HEAD_TASKS, type HeadTask } from './heads/architectures.js'
export {
  type Head,
  type HeadConfig,
  headFor,
  headModules,
  LOGITS,
  type ModelOutput,
  nameWithHead,
} from './heads/head.js'
export { ENCODER_OUTPUT, type JoinedModels, joinModels } from './join/join-models.js'
export { HIDDEN_STATES, joinedInputName } from './join/joined-input-name.js'
export { checkWeight } from './layers/check-weight.js'
export { decideProducts } from './layers/join-products.js'
export { biasOf, type LayerBias } from './layers/layer-bias.js'
export type { LinearLayer, PackedPart } from './layers/linear-layer.js'
export { findLinearLayers } from './layers/linear-layers.js'
export {
  type MatchedLayers,
  type MatchOptions,
  mappedModules,
  matchLayers,
  type UnmatchedModule,
} from './layers/match-layers.js'
export { isPart, wordsOf } from './layers/model-parts.js'
export { type ModuleMap, readModuleMap } from './layers/module-map.js'
export { findPackedLayers, packedParts } from './layers/packed-layers.js'
export { joined, productsOf } from './layers/products.js'
export { readLayer, type WholeWeights } from './layers/read-layer.js'
export { valuesOfFreeWidth } from './layers/resizable-head.js'
export type { OnnxAttribute, OnnxAttributeType } from './model/attribute.js'
export { type CreateModelOptions, createModel } from './model/create-model.js'
export type { NewAttribute, NewFunction, NewGraph, NewNode, NewTensor, NewValue } from './model/encode.js'
export type { OnnxGraph, OnnxNode } from './model/graph.js'
export { type ModelData, modelBytes, type OnnxFunction, type OnnxModel, readModel } from './model/model.js'
export { type ModelFileOptions, type ReadAt, readModelFile } from './model/read-model-file.js'
export { DataType } from './model/schema.js'
export { byteLengthOf, type ExternalData, type OnnxTensor, type ReadExternal } from './model/tensor.js'
export type { OnnxValue } from './model/value.js'

/** Table of contents of `@fourierft/onnx`. */
export type { NewAttribute, NewFunction, NewGraph, NewNode, NewTensor, NewValue } from './encode.js'
export type { OnnxAttribute, OnnxGraph, OnnxNode, OnnxValue } from './graph.js'
export { findLinearLayers, type LinearLayer } from './linear-layers.js'
export { type MatchedLayers, type MatchOptions, matchLayers, type UnmatchedModule } from './match-layers.js'
export { type OnnxFunction, type OnnxModel, readModel } from './model.js'
export { DataType } from './schema.js'
export type { ExternalData, OnnxTensor } from './tensor.js'

/** Table of contents of `@fourierft/tfjs/graph-model`: a separate entry point, because it needs `@tensorflow/tfjs-converter`. */
export { attachGraphModel, type GraphAttachOptions } from './attach-graph-model.js'
export type { GraphModuleNames } from './attachable-graph-model.js'

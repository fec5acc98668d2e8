/** Table of contents of `@fourierft/conformance`. */
export {
  type Check,
  type ConformanceReport,
  type ConformanceRow,
  formatMarkdown,
  formatTable,
  type LevelNumber,
  type LevelResult,
  type Status,
  toRows,
} from './report.js'
export { type ConformanceOptions, runConformance } from './run.js'
export { loadVectors, type Vectors } from './vectors.js'

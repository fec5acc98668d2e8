/** Table of contents of `@fourierft/conformance`. */
export { readAgain } from './core-round-trip.js'
export { referenceBackend } from './reference-backend.js'
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
export { referenceSubjects } from './verbs/reference-subject.js'
export type { AdapterSubject, AdapterSubjects, AdapterVerbs } from './verbs/subject.js'

/** Table of contents of `@fourierft/conformance`. */
export { readAgain } from './core-round-trip.js'
export { LEVELS } from './levels/index.js'
export { referenceBackend } from './reference-backend.js'
export {
  type Check,
  type ConformanceReport,
  type ConformanceRow,
  formatMarkdown,
  formatMarkdownNotes,
  formatMarkdownTable,
  formatTable,
  type LevelNumber,
  type LevelResult,
  type LevelVerdict,
  type Status,
  toRows,
} from './report.js'
export { type ConformanceOptions, runConformance } from './run.js'
export { loadVectors, type Vectors } from './vectors.js'
export { referenceSubjects } from './verbs/reference-subject.js'
export type { AdapterSubject, AdapterSubjects, AdapterVerbs } from './verbs/subject.js'

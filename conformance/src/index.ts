/** The public API of `@fourierft/conformance`. */

export { referenceSubjects } from './adapter-life-cycle/reference-subject.js'
export type { AdapterSubject, AdapterSubjects, AdapterVerbs } from './adapter-life-cycle/subject.js'
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

/** Table of contents of `@fourierft/core`. */
export { countParameters, type MethodSize, type ParameterCount } from './accounting/count-parameters.js'
export { type Preset, type PresetName, type PublishedRow, preset, presetNames } from './accounting/table-1.js'
export { Adapter } from './adapter/adapter.js'
export { checkAdapterNames, checkNewAdapterName } from './adapter/adapter-names.js'
export type { AdaptedModule, AdapterParts, Shapes } from './adapter/adapter-parts.js'
export { isOtherWeight } from './adapter/base-weights.js'
export {
  createConfig,
  type FourierFTConfig,
  type FourierFTOptions,
  isTaskHead,
  PEFT_TYPE,
  parseConfig,
  STANDALONE_PEFT_TYPE,
  serializeConfig,
  TASK_TYPES,
  withTaskHeads,
} from './adapter/config.js'
export {
  type CreateAdapterOptions,
  createAdapter,
  type EntriesChoice,
  type LinearWeights,
} from './adapter/create-adapter.js'
export { type JsonLimits, parseJson } from './adapter/json.js'
export { createLayer, type FloatArray, type Layer } from './adapter/layer.js'
export {
  findModules,
  isSavedWhole,
  type ModelFacts,
  matchModules,
  nFrequenciesOf,
  nFrequencyOf,
} from './adapter/module-matcher.js'
export { nearestNames } from './adapter/nearest-names.js'
export { compilePythonPattern, type PythonPattern } from './adapter/python-pattern.js'
export { readSavedModule, type SavedModule } from './adapter/saved-module.js'
export { standardNormal } from './adapter/standard-normal.js'
export { rejectTrainedBiases } from './adapter/trained-biases.js'
export { AdapterSet } from './adapter-set/adapter-set.js'
export { type Applied, type Choice, isSameChoice, type RowAdapter } from './adapter-set/choice.js'
export type { AdapterHost, CallState, Ending, MatchedAdapter } from './adapter-set/host.js'
export {
  type BandPassMapOptions,
  type BandPassOptions,
  bandPassEntries,
  bandPassMap,
} from './entries/band-pass.js'
export { entriesDigest } from './entries/digest.js'
export type { Entries, EntriesRecipe, Shape } from './entries/entries.js'
export { type ExplicitOptions, explicitEntries } from './entries/explicit.js'
export { makeEntries } from './entries/make-entries.js'
export { randomPermutation, type UniformOptions, uniformEntries } from './entries/uniform.js'
export {
  type ErrorCode,
  type ErrorDetails,
  escapeUnprintable,
  FourierFTError,
  invalidState,
} from './errors.js'
export type { AdapterBytes } from './files/adapter-bytes.js'
export { CONFIG_FILE, MODEL_FILE } from './files/adapter-files.js'
export { type AdapterSource, type LoadAdapterOptions, loadAdapter } from './files/load-adapter.js'
export { checkRevision, checkSubfolder } from './files/path-options.js'
export { baseParameter, savedModule, savedTensor } from './files/peft-layout.js'
export type { DownloadProgress } from './files/read-stream.js'
export {
  decodeFloats,
  encodeFloats,
  type FloatDtype,
  isFloatDtype,
  readSafetensors,
  type SafetensorsFile,
  type SafetensorsHeader,
  type Tensor,
  type TensorDtype,
  type TensorLocation,
  writeSafetensors,
} from './files/safetensors.js'
export { savePretrained } from './files/save-pretrained.js'
export type { WriteOptions } from './files/write-adapter.js'
export type { ApplyOptions, Strategy } from './spectrum/apply-options.js'
export type { BranchGradients } from './spectrum/branch-gradients.js'
export { delta, deltaAdjoint } from './spectrum/delta.js'
export {
  type GroupedAnalysis,
  type GroupedSynthesis,
  type GroupedTransform,
  groupedTransform,
} from './spectrum/grouped-transform.js'
export { addBackward, addForward } from './spectrum/linear.js'
export { clearPlans } from './spectrum/plan-cache.js'
export {
  type ReferenceDeltaOptions,
  type ReferenceGradients,
  type ReferenceOptions,
  referenceBackward,
  referenceDelta,
  referenceForward,
} from './spectrum/reference.js'
export { shapeMismatch } from './spectrum/shape-mismatch.js'
export { chooseStrategy, type TransformStrategy } from './spectrum/strategy.js'
export { type UnitCircle, unitCircle } from './spectrum/unit-circle.js'
export { type AdamW, type AdamWOptions, type AdamWState, createAdamW, restoreAdamW } from './train/adamw.js'
export { clipGradientNorm } from './train/clip-gradient-norm.js'
export { PAPER_SETTINGS, type PaperSettings, type PaperSettingsName } from './train/paper-settings.js'
export { cosineSchedule, linearSchedule, type Schedule, type ScheduleOptions } from './train/schedule.js'
export { unlessAborted } from './unless-aborted.js'

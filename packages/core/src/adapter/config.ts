/**
 * The configuration of an adapter: `adapter_config.json` as PEFT reads and writes it, in camel case. It specifies which modules are
 * adapted, with how many coefficients and which scaling, and how the entries are made. It contains no trained numbers.
 *
 * @see https://github.com/huggingface/peft/blob/v0.21.0/src/peft/tuners/fourierft/config.py
 */
import * as v from 'valibot'
import { FourierFTError } from '../errors.js'
import { decodeUtf8, type JsonLimits, jsonMembers, parseJson } from './json.js'
import { pythonFloat, pythonList, pythonObject, pythonString, sortedByKey } from './python-json.js'

/** The `peft_type` of an adapter that PEFT can reproduce. */
export const PEFT_TYPE = 'FOURIERFT'

/**
 * The `peft_type` of an adapter that stores its entries because PEFT's seed rule cannot make them. PEFT looks the type up among its
 * methods and fails with `KeyError: 'FOURIERFT_STANDALONE'`, both in `PeftConfig.from_pretrained` and in `PeftModel.from_pretrained`
 * (checked against 0.21.0). So PEFT never loads such a file with wrong entries.
 */
export const STANDALONE_PEFT_TYPE = 'FOURIERFT_STANDALONE'

/** The task types of PEFT 0.21, which rejects any other. */
export const TASK_TYPES = [
  'SEQ_CLS',
  'SEQ_2_SEQ_LM',
  'CAUSAL_LM',
  'TOKEN_CLS',
  'QUESTION_ANS',
  'FEATURE_EXTRACTION',
] as const

/**
 * The modules that PEFT adds to `modules_to_save` when it makes or loads an adapter of a task type: the task's heads, which start with
 * random weights.
 *
 * @see https://github.com/huggingface/peft/blob/v0.21.0/src/peft/peft_model.py `classifier_module_names`, `qa_module_names`
 */
const TASK_HEADS: ReadonlyMap<string | null, readonly string[]> = new Map([
  ['SEQ_CLS', ['classifier', 'score']],
  ['TOKEN_CLS', ['classifier', 'score']],
  ['QUESTION_ANS', ['qa_outputs']],
])

/** An adapter's configuration: PEFT's `FourierFTConfig` in camel case. */
export interface FourierFTConfig {
  readonly peftType: typeof PEFT_TYPE | typeof STANDALONE_PEFT_TYPE
  /** Coefficients of each layer, at least 1; at most `d1·d2`, which is checked when the shape is known. */
  readonly nFrequency: number
  /** `α`. */
  readonly scaling: number
  /** Seed of the entries, −2⁶³ … 2⁶⁴−1 as PyTorch takes it; a bigint if a number would not be exact. */
  readonly randomLocSeed: number | bigint
  /** Names or name endings, or one regular expression in Python's dialect, or `all-linear`; null: PEFT's defaults for the model type. */
  readonly targetModules: string | readonly string[] | null
  /** Modules that are never adapted: names or name endings, or one regular expression. */
  readonly excludeModules: string | readonly string[] | null
  /** The indices of the layers to adapt; null: all layers. */
  readonly layersToTransform: number | readonly number[] | null
  /** The name (a regular expression) of the list that `layersToTransform` counts in, such as `layers` or `h`. */
  readonly layersPattern: string | readonly string[] | null
  /** Other numbers of coefficients, by regular expression of the module name. The first expression that matches decides. */
  readonly nFrequencyPattern: ReadonlyMap<string, number>
  /** Whether the weights are stored as `[in, out]`. */
  readonly fanInFanOut: boolean
  /** `none`, `all` or `fourierft_only`. PEFT treats any name that ends in `_only` as `fourierft_only`. */
  readonly bias: string
  /**
   * Modules that are trained and saved whole, and never adapted. In a new configuration the task types SEQ_CLS and TOKEN_CLS add
   * `classifier` and `score`, QUESTION_ANS adds `qa_outputs`, as in PEFT.
   */
  readonly modulesToSave: readonly string[] | null
  /** The initial coefficients: zeros (true) or standard normal numbers (false). */
  readonly initWeights: boolean
  readonly taskType: string | null
  readonly baseModelNameOrPath: string | null
  readonly revision: string | null
  readonly inferenceMode: boolean
  readonly peftVersion: string | null
  /** Keys that this package does not interpret (`auto_mapping`, keys of newer versions), each with the JSON text of its value. */
  readonly extra: ReadonlyMap<string, string>
  /** The text of the file. It is written back unchanged if no field was changed. */
  readonly source?: string
}

/** The options of a configuration, all with PEFT's defaults. */
export type FourierFTOptions = Partial<Omit<FourierFTConfig, 'nFrequencyPattern' | 'source'>> & {
  readonly nFrequencyPattern?: ReadonlyMap<string, number> | Readonly<Record<string, number>>
}

/** Well above real configurations: the longest list some thousand module names, a few hundred kilobytes. */
const LIMITS: JsonLimits = { maxLength: 4 * 1024 * 1024, maxValues: 20_000 }
/** The longest seed that PyTorch takes has 20 characters, with its sign. */
const MAX_SEED_LENGTH = 20

/** The name of each field in the file. Errors about a file use it; errors about options use the field's name. */
const FILE_KEYS = {
  peftType: 'peft_type',
  nFrequency: 'n_frequency',
  scaling: 'scaling',
  randomLocSeed: 'random_loc_seed',
  targetModules: 'target_modules',
  excludeModules: 'exclude_modules',
  layersToTransform: 'layers_to_transform',
  layersPattern: 'layers_pattern',
  nFrequencyPattern: 'n_frequency_pattern',
  fanInFanOut: 'fan_in_fan_out',
  bias: 'bias',
  modulesToSave: 'modules_to_save',
  initWeights: 'init_weights',
  taskType: 'task_type',
  baseModelNameOrPath: 'base_model_name_or_path',
  revision: 'revision',
  inferenceMode: 'inference_mode',
  peftVersion: 'peft_version',
} as const satisfies Record<Exclude<keyof FourierFTConfig, 'extra' | 'source'>, string>

type Field = keyof typeof FILE_KEYS

const names = (meaning: string) =>
  v.nullable(v.union([v.string(), v.array(v.string())], `a string or a list of strings: ${meaning}`), null)

const flag = (meaning: string) =>
  v.pipe(
    v.union([v.boolean(), v.null(), v.picklist([0, 1])], `true or false: ${meaning}`),
    v.transform((value) => Boolean(value)),
  )

const count = 'an integer of at least 1'
const positive = v.pipe(v.number(count), v.safeInteger(count), v.minValue(1, count))

const seedRange = 'an integer from -2^63 to 2^64 - 1, the seeds that PyTorch takes'
const seed = v.pipe(
  v.union([v.pipe(v.number(), v.safeInteger(seedRange)), v.bigint()], seedRange),
  v.check((value) => value >= -(2n ** 63n) && value < 2n ** 64n, seedRange),
)

const layerIndex = v.pipe(v.number(), v.safeInteger('an integer or a list of integers'))
const text = v.nullable(v.string('a string or null'), null)

/** PEFT's defaults, and the values that PEFT 0.21 can use. Each message names the expected value. */
const SCHEMA = v.object({
  peftType: v.picklist([PEFT_TYPE, STANDALONE_PEFT_TYPE], `"${PEFT_TYPE}" or "${STANDALONE_PEFT_TYPE}"`),
  nFrequency: v.optional(positive, 1000),
  scaling: v.optional(v.pipe(v.number('a finite number'), v.finite('a finite number')), 150),
  randomLocSeed: v.optional(seed, 777),
  targetModules: v.optional(names('module names, or one regular expression'), null),
  excludeModules: v.optional(names('module names, or one regular expression'), null),
  layersToTransform: v.optional(
    v.nullable(v.union([layerIndex, v.array(layerIndex)], 'an integer or a list of integers'), null),
    null,
  ),
  layersPattern: v.optional(names('the name of the list of layers'), null),
  nFrequencyPattern: v.optional(v.map(v.string(), positive, 'an object of numbers'), new Map()),
  fanInFanOut: v.optional(flag('weights are stored [in, out]'), false),
  bias: v.optional(
    v.pipe(
      v.string('"none", "all" or "fourierft_only"'),
      v.check(
        (bias) => bias === 'none' || bias === 'all' || bias.endsWith('_only'),
        '"none", "all" or "fourierft_only"',
      ),
    ),
    'none',
  ),
  modulesToSave: v.optional(v.nullable(v.array(v.string(), 'a list of module names'), null), null),
  initWeights: v.optional(flag('coefficients start as zeros'), false),
  taskType: v.optional(text, null),
  baseModelNameOrPath: v.optional(text, null),
  revision: v.optional(text, null),
  inferenceMode: v.optional(flag('the adapter is not trained'), false),
  peftVersion: v.optional(text, null),
})

/**
 * Reads `adapter_config.json`. Absent keys have PEFT's defaults; unknown keys are kept and written back. Rejects values that PEFT
 * reads but cannot use, such as `n_frequency` 0 or a seed outside 64 bits.
 *
 * @param json the text, or its UTF-8 bytes
 * @param file name of the file in errors
 * @throws FourierFTError INVALID_JSON, INVALID_CONFIG, UNSUPPORTED_PEFT_TYPE
 */
export function parseConfig(json: string | Uint8Array, file = 'adapter_config.json'): FourierFTConfig {
  const source = typeof json === 'string' ? json : decodeUtf8(json, file)
  const value = parseJson(source, file, LIMITS)
  if (!isObject(value)) {
    throw new FourierFTError('INVALID_CONFIG', `${file}: expected a JSON object`, { file })
  }
  const members = new Map(jsonMembers(source, file, LIMITS))
  const peftType = Object.hasOwn(value, 'peft_type') ? value.peft_type : undefined
  if (peftType !== PEFT_TYPE && peftType !== STANDALONE_PEFT_TYPE) throw unsupportedPeftType(peftType, file)

  const fields: Record<string, unknown> = {}
  for (const [field, key] of Object.entries(FILE_KEYS)) {
    if (Object.hasOwn(value, key)) fields[field] = value[key]
  }
  const seedText = members.get(FILE_KEYS.randomLocSeed)
  // A longer number is out of range, and so is its rounded value. Converting all its digits would take quadratic time.
  if (seedText !== undefined && seedText.length <= MAX_SEED_LENGTH && /^-?\d+$/.test(seedText)) {
    fields.randomLocSeed = exactInteger(seedText)
  }
  if (isObject(fields.nFrequencyPattern)) {
    // Read the members: their order in the file decides which pattern applies, and JSON.parse would put a key such as "7" first.
    const pattern = jsonMembers(members.get(FILE_KEYS.nFrequencyPattern) ?? '{}', file)
    fields.nFrequencyPattern = new Map(Array.from(pattern, ([key, literal]) => [key, JSON.parse(literal)]))
  } else if (fields.nFrequencyPattern === null) {
    delete fields.nFrequencyPattern
  }

  const known = new Set<string>(Object.values(FILE_KEYS))
  const extra = new Map([...members].filter(([key]) => !known.has(key)))
  const origin: Origin = { code: 'INVALID_CONFIG', file, spell: (field) => FILE_KEYS[field] }
  return { ...validate(fields, origin), extra, source }
}

/**
 * Makes a configuration with PEFT's defaults: 1000 coefficients, scaling 150, seed 777, standard normal initial coefficients, and the heads
 * of the task type in `modulesToSave`.
 *
 * The keys of `nFrequencyPattern` are sorted, as in PEFT's files. The first key that matches decides, so a saved adapter has the same numbers
 * of coefficients as the adapter in memory. (In PEFT the two may differ.)
 *
 * @throws FourierFTError INVALID_OPTION
 */
export function createConfig(options: FourierFTOptions = {}): FourierFTConfig {
  const { extra = new Map(), nFrequencyPattern, taskType = null, ...rest } = options
  const origin: Origin = { code: 'INVALID_OPTION', spell: (field) => field }
  const unknown = Object.keys(rest).find((option) => !Object.hasOwn(FILE_KEYS, option) && option !== 'source')
  if (unknown !== undefined) throw unknownOption(unknown)
  if (taskType !== null && !TASK_TYPES.some((known) => known === taskType)) {
    throw invalidField('taskType', `one of ${TASK_TYPES.join(', ')}, or null`, taskType, origin)
  }
  const pattern =
    nFrequencyPattern instanceof Map ? nFrequencyPattern : Object.entries(nFrequencyPattern ?? {})
  const fields = { peftType: PEFT_TYPE, ...rest, taskType, nFrequencyPattern: new Map(sortedByKey(pattern)) }
  return { ...withTaskHeads(validate(fields, origin)), extra }
}

/**
 * Returns the text of `adapter_config.json`, byte for byte as PEFT writes it: keys sorted (except those of `nFrequencyPattern`), indented by
 * two spaces, ASCII, no final line break. For an unchanged configuration from a file, returns the text of the file.
 */
export function serializeConfig(config: FourierFTConfig): string {
  const text = canonicalText(config)
  if (config.source === undefined) return text
  return canonicalText(parseConfig(config.source, 'adapter_config.json')) === text ? config.source : text
}

function canonicalText(config: FourierFTConfig): string {
  const members = new Map<string, string>([['auto_mapping', 'null'], ...config.extra])
  const set = (field: Field, literal: string) => members.set(FILE_KEYS[field], literal)
  const string = (value: string | null) => (value === null ? 'null' : pythonString(value))
  const strings = (value: string | readonly string[] | null) =>
    value === null || typeof value === 'string' ? string(value) : pythonList(value.map(pythonString), 1)
  const { layersToTransform: indices } = config

  set('peftType', string(config.peftType))
  set('nFrequency', String(config.nFrequency))
  set('scaling', pythonFloat(config.scaling))
  set('randomLocSeed', String(config.randomLocSeed))
  set('targetModules', strings(config.targetModules))
  set('excludeModules', strings(config.excludeModules))
  set(
    'layersToTransform',
    typeof indices === 'object' && indices ? pythonList(indices.map(String), 1) : `${indices}`,
  )
  set('layersPattern', strings(config.layersPattern))
  set(
    'nFrequencyPattern',
    pythonObject(
      [...config.nFrequencyPattern].map(([key, n]) => [key, String(n)] as const),
      1,
    ),
  )
  set('fanInFanOut', String(config.fanInFanOut))
  set('bias', string(config.bias))
  set('modulesToSave', strings(config.modulesToSave))
  set('initWeights', String(config.initWeights))
  set('taskType', string(config.taskType))
  set('baseModelNameOrPath', string(config.baseModelNameOrPath))
  set('revision', string(config.revision))
  set('inferenceMode', String(config.inferenceMode))
  set('peftVersion', string(config.peftVersion))
  return pythonObject(sortedByKey(members), 0)
}

/** The origin of the fields: a file or options. Errors spell the fields as the origin does. */
interface Origin {
  readonly code: 'INVALID_CONFIG' | 'INVALID_OPTION'
  readonly file?: string
  readonly spell: (field: Field) => string
}

function validate(
  fields: Record<string, unknown>,
  origin: Origin,
): Omit<FourierFTConfig, 'extra' | 'source'> {
  const result = v.safeParse(SCHEMA, fields, { abortEarly: true })
  if (!result.success) {
    const [issue] = result.issues
    const field = issue.path?.[0]?.key as Field
    const inner = issue.path?.slice(1).map((item) => JSON.stringify(item.key)) ?? []
    const at = inner.length > 0 ? `at ${inner.join(', ')} ` : ''
    throw invalidField(field, at + issue.message, inner.length > 0 ? issue.input : fields[field], origin)
  }
  const config = result.output
  // PEFT's FourierFTConfig.__post_init__ rejects these combinations.
  if (typeof config.targetModules === 'string') {
    for (const field of ['layersToTransform', 'layersPattern'] as const) {
      if (config[field] !== null) {
        throw invalidField(
          field,
          `null, because ${origin.spell('targetModules')} is a string`,
          config[field],
          origin,
        )
      }
    }
  }
  if (config.layersPattern?.length && config.layersToTransform === null) {
    const expected = `layer indices, because ${origin.spell('layersPattern')} is given`
    throw invalidField('layersToTransform', expected, null, origin)
  }
  return config
}

/**
 * Returns the configuration as PEFT uses it in a model: the task type adds names to `modulesToSave`. PEFT's own files contain them already,
 * because PEFT adds them before it writes the file.
 */
export function withTaskHeads<Config extends Pick<FourierFTConfig, 'modulesToSave' | 'taskType'>>(
  config: Config,
): Config {
  const heads = TASK_HEADS.get(config.taskType)
  const known = config.modulesToSave ?? []
  if (!heads || heads.every((head) => known.includes(head))) return config
  return { ...config, modulesToSave: [...new Set([...known, ...heads])] }
}

/** Checks whether PEFT adds the name to `modulesToSave` for the task type, even if the model has no such module. */
export function isTaskHead({ taskType }: Pick<FourierFTConfig, 'taskType'>, name: string): boolean {
  return TASK_HEADS.get(taskType)?.includes(name) ?? false
}

function invalidField(field: Field, expected: string, received: unknown, origin: Origin): FourierFTError {
  const name = origin.spell(field)
  const where = origin.file === undefined ? name : `${origin.file}: ${name}`
  return new FourierFTError(origin.code, `${where}: expected ${expected}; received ${excerptOf(received)}`, {
    ...(origin.file === undefined ? {} : { file: origin.file }),
    option: name,
    expected,
    received,
  })
}

function unknownOption(option: string): FourierFTError {
  const known = Object.keys(FILE_KEYS).join(', ')
  return new FourierFTError('INVALID_OPTION', `unknown option ${option}; expected one of ${known}`, {
    option,
    expected: Object.keys(FILE_KEYS),
  })
}

function unsupportedPeftType(peftType: unknown, file: string): FourierFTError {
  const found = peftType === undefined ? 'has no peft_type' : `has the peft_type ${excerptOf(peftType)}`
  return new FourierFTError(
    'UNSUPPORTED_PEFT_TYPE',
    `${file} ${found}; expected "${PEFT_TYPE}", because adapters of other methods cannot be used here`,
    { file, option: 'peft_type', expected: PEFT_TYPE, received: peftType },
  )
}

function excerptOf(value: unknown): string {
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Map) return 'a Map'
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? 'undefined')
  return text.length > 100 ? `${text.slice(0, 100)}…` : text
}

function exactInteger(digits: string): number | bigint {
  const rounded = Number(digits)
  return Number.isSafeInteger(rounded) ? rounded : BigInt(digits)
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

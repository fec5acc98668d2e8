/**
 * The configuration of an adapter: `adapter_config.json` as PEFT reads and writes it, in camel case. It says which modules, how many
 * coefficients, the scaling and how the entries came about; it holds no numbers that were trained and knows no model.
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
 * The `peft_type` of an adapter that carries its own entries because PEFT's seed rule cannot make them. PEFT looks the type up among
 * the methods it knows and refuses with `KeyError: 'FOURIERFT_STANDALONE'`, in `PeftConfig.from_pretrained` and in
 * `PeftModel.from_pretrained` alike (checked against 0.21.0), so it can never load such a file with other entries.
 */
export const STANDALONE_PEFT_TYPE = 'FOURIERFT_STANDALONE'

/** The task types of PEFT 0.21; it refuses any other. */
export const TASK_TYPES = [
  'SEQ_CLS',
  'SEQ_2_SEQ_LM',
  'CAUSAL_LM',
  'TOKEN_CLS',
  'QUESTION_ANS',
  'FEATURE_EXTRACTION',
] as const

/**
 * The modules that PEFT adds to `modules_to_save` for a task type, whenever it makes or loads an adapter of it: the heads that a task
 * begins with at random.
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
  /** Coefficients of each layer, at least 1; at most `d1·d2`, which is checked where a shape is known. */
  readonly nFrequency: number
  /** `α`. */
  readonly scaling: number
  /** Seed of the entries, −2⁶³ … 2⁶⁴−1 as PyTorch takes it; a bigint where a number would not be exact. */
  readonly randomLocSeed: number | bigint
  /** Names or name endings, or one regular expression in Python's dialect, or `all-linear`; null: the model type's usual ones. */
  readonly targetModules: string | readonly string[] | null
  /** Names or name endings, or one regular expression; these are never adapted. */
  readonly excludeModules: string | readonly string[] | null
  /** Only layers with one of these indices. */
  readonly layersToTransform: number | readonly number[] | null
  /** The name (a regular expression) of the list that `layersToTransform` counts in, such as `layers` or `h`. */
  readonly layersPattern: string | readonly string[] | null
  /** Other numbers of coefficients, by regular expression of the module name; the first that matches, in this order. */
  readonly nFrequencyPattern: ReadonlyMap<string, number>
  /** The weights are stored `[in, out]`. */
  readonly fanInFanOut: boolean
  /** `none`, `all`, or `fourierft_only`; PEFT takes any name that ends in `_only` for the latter. */
  readonly bias: string
  /**
   * Modules trained and saved whole; they are never adapted. In a new configuration the task types SEQ_CLS and TOKEN_CLS add
   * `classifier` and `score`, QUESTION_ANS adds `qa_outputs`, as in PEFT.
   */
  readonly modulesToSave: readonly string[] | null
  /** How new coefficients start: true zeros, false standard normal. */
  readonly initWeights: boolean
  readonly taskType: string | null
  readonly baseModelNameOrPath: string | null
  readonly revision: string | null
  readonly inferenceMode: boolean
  readonly peftVersion: string | null
  /** Keys that nothing here interprets (`auto_mapping`, those of newer versions), each with the JSON text of its value. */
  readonly extra: ReadonlyMap<string, string>
  /** The file's text. Written back as it is for as long as every other field says the same as the text. */
  readonly source?: string
}

/** What a user may set; everything else has PEFT's default. */
export type FourierFTOptions = Partial<Omit<FourierFTConfig, 'nFrequencyPattern' | 'source'>> & {
  readonly nFrequencyPattern?: ReadonlyMap<string, number> | Readonly<Record<string, number>>
}

/** The longest real ones list some thousand module names: a few hundred kilobytes. */
const LIMITS: JsonLimits = { maxLength: 4 * 1024 * 1024, maxValues: 20_000 }
/** No seed that PyTorch takes has more characters, a sign included. */
const MAX_SEED_LENGTH = 20

/** Spelling in the file of each field; both spellings appear in errors, each where it belongs. */
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

const names = (what: string) =>
  v.nullable(v.union([v.string(), v.array(v.string())], `a string or a list of strings: ${what}`), null)

const flag = (what: string) =>
  v.pipe(
    v.union([v.boolean(), v.null(), v.picklist([0, 1])], `true or false: ${what}`),
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

/** PEFT's defaults; what a key may hold is what PEFT 0.21 can go on to use. The messages say what was expected. */
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
 * Reads `adapter_config.json`. Absent keys have PEFT's defaults; unknown ones are kept and written back. Files that PEFT would read
 * and then could not use (`n_frequency` 0, a seed outside 64 bits) are refused here already.
 *
 * @param json the text, or its UTF-8 bytes
 * @param file names the file in errors
 * @throws FourierFTError INVALID_JSON, INVALID_CONFIG, UNSUPPORTED_PEFT_TYPE
 */
export function parseConfig(json: string | Uint8Array, file = 'adapter_config.json'): FourierFTConfig {
  const source = typeof json === 'string' ? json : decodeUtf8(json, file)
  const value = parseJson(source, file, LIMITS)
  if (!isObject(value)) {
    throw new FourierFTError('INVALID_CONFIG', `${file} has to hold a JSON object.`, { file })
  }
  const members = new Map(jsonMembers(source, file, LIMITS))
  const peftType = Object.hasOwn(value, 'peft_type') ? value.peft_type : undefined
  if (peftType !== PEFT_TYPE && peftType !== STANDALONE_PEFT_TYPE) throw unsupportedPeftType(peftType, file)

  const fields: Record<string, unknown> = {}
  for (const [field, key] of Object.entries(FILE_KEYS)) {
    if (Object.hasOwn(value, key)) fields[field] = value[key]
  }
  const seedText = members.get(FILE_KEYS.randomLocSeed)
  // A longer one is out of range, which its rounded value shows too; all its digits would cost time that grows with their square.
  if (seedText !== undefined && seedText.length <= MAX_SEED_LENGTH && /^-?\d+$/.test(seedText)) {
    fields.randomLocSeed = exactInteger(seedText)
  }
  if (isObject(fields.nFrequencyPattern)) {
    // Through the members, for the order of the file is the order of precedence and a key may be "7".
    const pattern = jsonMembers(members.get(FILE_KEYS.nFrequencyPattern) ?? '{}', file)
    fields.nFrequencyPattern = new Map(Array.from(pattern, ([key, literal]) => [key, JSON.parse(literal)]))
  } else if (fields.nFrequencyPattern === null) {
    delete fields.nFrequencyPattern
  }

  const known = new Set<string>(Object.values(FILE_KEYS))
  const extra = new Map([...members].filter(([key]) => !known.has(key)))
  const place: Place = { code: 'INVALID_CONFIG', file, spell: (field) => FILE_KEYS[field] }
  return { ...validate(fields, place), extra, source }
}

/**
 * A configuration with PEFT's defaults: 1000 coefficients, scaling 150, seed 777, coefficients starting from a standard normal
 * distribution, and the heads of the task type among `modulesToSave`.
 *
 * The keys of `nFrequencyPattern` are put in the order that PEFT's files have, sorted, because the first one that matches decides: the
 * adapter in memory and the one read back mean the same. (In PEFT itself they may differ.)
 *
 * @throws FourierFTError INVALID_OPTION
 */
export function createConfig(options: FourierFTOptions = {}): FourierFTConfig {
  const { extra = new Map(), nFrequencyPattern, taskType = null, ...rest } = options
  const place: Place = { code: 'INVALID_OPTION', spell: (field) => field }
  const unknown = Object.keys(rest).find((option) => !Object.hasOwn(FILE_KEYS, option) && option !== 'source')
  if (unknown !== undefined) throw unknownOption(unknown)
  if (taskType !== null && !TASK_TYPES.some((known) => known === taskType)) {
    throw wrong('taskType', `one of ${TASK_TYPES.join(', ')}, or null`, taskType, place)
  }
  const pattern =
    nFrequencyPattern instanceof Map ? nFrequencyPattern : Object.entries(nFrequencyPattern ?? {})
  const fields = { peftType: PEFT_TYPE, ...rest, taskType, nFrequencyPattern: new Map(sortedByKey(pattern)) }
  return { ...withTaskHeads(validate(fields, place)), extra }
}

/**
 * The text of `adapter_config.json`, in PEFT's own bytes: keys sorted (those of `nFrequencyPattern` stay as they are), two spaces, ASCII,
 * no final line break. A configuration that
 * was read from a file and says nothing new is that file's text.
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

/** Where the fields came from, so that errors can name them as their author wrote them. */
interface Place {
  readonly code: 'INVALID_CONFIG' | 'INVALID_OPTION'
  readonly file?: string
  readonly spell: (field: Field) => string
}

function validate(fields: Record<string, unknown>, place: Place): Omit<FourierFTConfig, 'extra' | 'source'> {
  const result = v.safeParse(SCHEMA, fields, { abortEarly: true })
  if (!result.success) {
    const [issue] = result.issues
    const field = issue.path?.[0]?.key as Field
    const inner = issue.path?.slice(1).map((item) => JSON.stringify(item.key)) ?? []
    const at = inner.length > 0 ? `at ${inner.join(', ')} ` : ''
    throw wrong(field, at + issue.message, inner.length > 0 ? issue.input : fields[field], place)
  }
  const config = result.output
  // The combinations that PEFT's FourierFTConfig.__post_init__ refuses.
  if (typeof config.targetModules === 'string') {
    for (const field of ['layersToTransform', 'layersPattern'] as const) {
      if (config[field] !== null) {
        throw wrong(field, `null, because ${place.spell('targetModules')} is a string`, config[field], place)
      }
    }
  }
  if (config.layersPattern?.length && config.layersToTransform === null) {
    const expected = `layer indices, because ${place.spell('layersPattern')} is given`
    throw wrong('layersToTransform', expected, null, place)
  }
  return config
}

/**
 * The configuration as PEFT has it in a model: its task type adds names to `modulesToSave`. PEFT's own files have them already, for they
 * are written afterwards.
 */
export function withTaskHeads<Config extends Pick<FourierFTConfig, 'modulesToSave' | 'taskType'>>(
  config: Config,
): Config {
  const heads = TASK_HEADS.get(config.taskType)
  const known = config.modulesToSave ?? []
  if (!heads || heads.every((head) => known.includes(head))) return config
  return { ...config, modulesToSave: [...new Set([...known, ...heads])] }
}

/** Whether PEFT adds the name to `modulesToSave` by itself, for models that have such a module and those that have none. */
export function isTaskHead({ taskType }: Pick<FourierFTConfig, 'taskType'>, name: string): boolean {
  return TASK_HEADS.get(taskType)?.includes(name) ?? false
}

function wrong(field: Field, expected: string, received: unknown, place: Place): FourierFTError {
  const name = place.spell(field)
  const where = place.file === undefined ? `Option ${name}` : `${place.file}: ${name}`
  return new FourierFTError(place.code, `${where} has to be ${expected}; it is ${show(received)}.`, {
    ...(place.file === undefined ? {} : { file: place.file }),
    option: name,
    expected,
    received,
  })
}

function unknownOption(option: string): FourierFTError {
  const known = Object.keys(FILE_KEYS).join(', ')
  return new FourierFTError('INVALID_OPTION', `There is no option ${option}; the options are ${known}.`, {
    option,
    expected: Object.keys(FILE_KEYS),
  })
}

function unsupportedPeftType(peftType: unknown, file: string): FourierFTError {
  const found = peftType === undefined ? 'has no peft_type' : `has the peft_type ${show(peftType)}`
  return new FourierFTError(
    'UNSUPPORTED_PEFT_TYPE',
    `${file} ${found}; expected "${PEFT_TYPE}". Adapters of other methods cannot be used here.`,
    { file, option: 'peft_type', expected: PEFT_TYPE, received: peftType },
  )
}

function show(value: unknown): string {
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

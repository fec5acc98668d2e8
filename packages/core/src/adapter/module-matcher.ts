/**
 * Finds the modules of a model that a configuration adapts, and their numbers of coefficients, by exactly PEFT's rules. It uses only the names
 * of the modules, not their kinds or shapes.
 *
 * @see https://github.com/huggingface/peft/blob/v0.21.0/src/peft/tuners/tuners_utils.py `check_target_module_exists`, `inject_adapter`
 */
import { FourierFTError } from '../errors.js'
import { type FourierFTConfig, withTaskHeads } from './config.js'
import { DEFAULT_TARGET_MODULES } from './default-target-modules.js'
import { nearestNames } from './nearest-names.js'
import { PatternBudget } from './pattern-budget.js'
import { runNow, type Steps } from './pausable-work.js'
import { digitValue } from './python-character-set.js'
import { comparePythonStrings } from './python-json.js'
import { compilePythonPattern, isPlain, type PythonPattern } from './python-pattern.js'

/** The facts that PEFT reads from the model. Needed only if the configuration leaves the choice of modules to the model. */
export interface ModelFacts {
  /** For `all-linear`: the names of the linear layers. Default: every name. */
  readonly linear?: Iterable<string>
  /**
   * For `all-linear`: the layer of the output embeddings, which is not adapted; null if the model has no such layer. Default: the module
   * `score` or `classifier` for the task type SEQ_CLS, otherwise no module.
   */
  readonly outputLayer?: string | null
  /** `model_type` in the model's own configuration; used if `targetModules` is null. */
  readonly modelType?: string | undefined
}

/** PEFT's name for a configuration that adapts nothing. */
const DUMMY_TARGET_MODULES = 'dummy-target-modules'
/** PEFT's name, in upper or lower case, for every linear layer except the output. */
const ALL_LINEAR = 'all-linear'
/** From this number of targets on, PEFT replaces them by the shortest endings that match the same modules. */
const MIN_TARGETS_FOR_ENDINGS = 20

/**
 * Returns the modules that `config` adapts, in the order of `moduleNames`.
 *
 * @param moduleNames all modules of the model, dotted, without `base_model.model.`
 * @throws FourierFTError MODULE_NOT_FOUND, with the nearest names, if no module matches; INVALID_PATTERN, also if the total work of the
 *   patterns on these names is too much; INVALID_OPTION if `targetModules` is null and PEFT has no default for the model type
 */
export function matchModules(
  config: FourierFTConfig,
  moduleNames: Iterable<string>,
  facts: ModelFacts = {},
): string[] {
  const names = [...moduleNames]
  const matched = findModules(config, names, facts)
  if (matched.length === 0 && config.targetModules !== DUMMY_TARGET_MODULES)
    throw nothingMatches(config, names)
  return matched
}

/** Returns the same modules as {@link matchModules}, or an empty list if nothing matches. */
export function findModules(
  config: FourierFTConfig,
  moduleNames: Iterable<string>,
  facts: ModelFacts = {},
): string[] {
  const names = [...moduleNames].filter((name) => name !== '')
  const budget = new PatternBudget()
  const targets = resolveTargets(config, names, facts, budget)
  if (targets === DUMMY_TARGET_MODULES) return []
  const isExcluded = exclusionTest(config, budget)
  const isTargeted =
    typeof targets === 'string' ? patternTest(targets, budget) : nameTest(targets, config, budget)
  return names.filter((name) => !isExcluded(name) && isTargeted(name))
}

/**
 * Returns a test that checks whether the configuration can adapt a module of a given name in some model. Some rules depend on all modules of a
 * model (`all-linear`, no `targetModules`, twenty or more targets); a module passes if it is adapted in at least one model.
 *
 * @throws FourierFTError INVALID_PATTERN
 */
export function targetTest(
  config: FourierFTConfig,
  budget = new PatternBudget(),
): (module: string) => boolean {
  const { targetModules } = config
  if (targetModules === DUMMY_TARGET_MODULES) return () => false
  const isExcluded = exclusionTest(config, budget)
  if (isChosenByModel(targetModules)) return (module) => !isExcluded(module)
  const isTargeted =
    typeof targetModules === 'string'
      ? patternTest(targetModules, budget)
      : nameTest(new Set(targetModules), config, budget)
  return (module) => isTargeted(module) && !isExcluded(module)
}

/** Checks whether the model decides which modules are adapted. */
export function isChosenByModel(targets: FourierFTConfig['targetModules']): targets is string | null {
  return targets === null || (typeof targets === 'string' && targets.toLowerCase() === ALL_LINEAR)
}

/**
 * Checks whether PEFT saves a module whole. It does so if the name of the module, or of a module that contains it, ends with one of
 * `modulesToSave`. For example, `classifier` also saves DistilBERT's `pre_classifier`.
 *
 * @see https://github.com/huggingface/peft/blob/v0.21.0/src/peft/utils/other.py `_set_trainable`
 */
export function isSavedWhole(config: FourierFTConfig, module: string): boolean {
  return savedWholeTest(config)(module)
}

/** Returns {@link isSavedWhole} of one configuration, for use with many modules. */
export function savedWholeTest(config: FourierFTConfig): (module: string) => boolean {
  const endings = withTaskHeads(config).modulesToSave ?? []
  return (module) =>
    endings.some((ending) => {
      for (let at = module.indexOf(ending); at >= 0; at = module.indexOf(ending, at + 1)) {
        const end = at + ending.length
        if (end === module.length || module[end] === '.') return true
      }
      return false
    })
}

/**
 * Returns the number of coefficients of a module. Each key of `nFrequencyPattern` is a regular expression for the end of a name, after a dot; the
 * first key that matches decides. If none matches, a key that equals the name decides, and otherwise `nFrequency`.
 *
 * @throws FourierFTError INVALID_PATTERN
 * @see https://github.com/huggingface/peft/blob/v0.21.0/src/peft/tuners/fourierft/model.py `_create_and_replace`
 */
export function nFrequencyOf(config: FourierFTConfig, module: string): number {
  return nFrequenciesOf(config, [module]).get(module) as number
}

/**
 * Returns the numbers of coefficients of several modules, by the rules of {@link nFrequencyOf}. Each pattern is compiled once.
 *
 * @throws FourierFTError INVALID_PATTERN, also if the total work of the patterns on these names is too much
 */
export function nFrequenciesOf(
  config: FourierFTConfig,
  modules: Iterable<string>,
): ReadonlyMap<string, number> {
  return runNow(nFrequencySteps(config, modules))
}

/** Does the work of {@link nFrequenciesOf} in short steps. */
export function* nFrequencySteps(
  { nFrequency, nFrequencyPattern }: FourierFTConfig,
  modules: Iterable<string>,
  budget = new PatternBudget(),
): Steps<ReadonlyMap<string, number>> {
  const result = new Map<string, number>()
  let unmatched = [...new Set(modules)]
  for (const [key, n] of nFrequencyPattern) {
    if (unmatched.length === 0) break
    const matches = keyTest(key, budget)
    const others: string[] = []
    for (const module of unmatched) {
      if (matches(module)) result.set(module, n)
      else others.push(module)
      yield
    }
    unmatched = others
    budget.release()
  }
  for (const module of unmatched) result.set(module, nFrequencyPattern.get(module) ?? nFrequency)
  return result
}

/** Returns a test for one key of `n_frequency_pattern`. Compiled patterns are large, so each is released before the next one is compiled. */
function keyTest(key: string, budget: PatternBudget): NameTest {
  const option = 'n_frequency_pattern'
  let pattern: PythonPattern | undefined
  const isLiteral = /^[\w.-]*$/.test(key)
  return (name) => {
    // Most keys are names. They need no engine: a dot matches any character, and every other character matches itself.
    if (isLiteral && isPlain(name)) {
      budget.spend(1 + key.length / 10, option)
      const start = name.length - key.length
      if (name.charAt(start - 1) !== '.') return false
      for (let i = 0; i < key.length; i++)
        if (key.charAt(i) !== '.' && key.charAt(i) !== name.charAt(start + i)) return false
      return true
    }
    // The key is inserted without brackets, as in PEFT: of `a|b`, only the second alternative must match at the end of the name.
    pattern ??= compilePythonPattern(`.*\\.${key}$`, { option, budget })
    return pattern.match(name)
  }
}

/** Returns the targets: one regular expression, or names and name endings. */
function resolveTargets(
  config: FourierFTConfig,
  names: readonly string[],
  facts: ModelFacts,
  budget: PatternBudget,
): string | ReadonlySet<string> {
  const targets = config.targetModules ?? defaultTargets(facts.modelType)
  if (typeof targets === 'string') {
    if (!isChosenByModel(targets)) return targets
    return shortestEndings(allLinear(config, names, facts), names, budget)
  }
  return shortestEndings(new Set(targets), names, budget)
}

function defaultTargets(modelType: string | undefined): string | readonly string[] {
  const targets = modelType === undefined ? undefined : DEFAULT_TARGET_MODULES.get(modelType)
  if (targets) return targets
  throw new FourierFTError(
    'INVALID_OPTION',
    `targetModules is null and ${modelType === undefined ? 'the model type is unknown' : `PEFT has no default for the model type ${JSON.stringify(modelType)}`}`,
    {
      advice: 'name the modules to adapt in targetModules',
      option: 'targetModules',
      expected: 'module names or a regular expression',
      received: null,
    },
  )
}

/** Returns every linear layer except the output, as PEFT's `_maybe_include_all_linear_layers`. */
function allLinear(
  config: FourierFTConfig,
  names: readonly string[],
  { linear, outputLayer }: ModelFacts,
): Set<string> {
  const targets = new Set(linear ?? names)
  const heads = config.taskType === 'SEQ_CLS' ? ['score', 'classifier'] : []
  const output = outputLayer === undefined ? heads.find((head) => names.includes(head)) : outputLayer
  if (output) targets.delete(output)
  return targets
}

/**
 * Replaces targets by shorter endings, as PEFT's `_find_minimal_target_modules`. This can change the result: a target that was a full name
 * becomes an ending, and `layers_to_transform` restricts only endings.
 */
function shortestEndings(
  targets: ReadonlySet<string>,
  names: readonly string[],
  budget: PatternBudget,
): ReadonlySet<string> {
  if (targets.size < MIN_TARGETS_FOR_ENDINGS || targets.has('')) return targets
  const byEndings = Array.from(targets, (target) => endings(target, budget)).sort(compareLists)
  const candidates = new Set(byEndings.flat())
  const isTargeted = endingTest(targets)
  const others = new Set<string>()
  for (const name of names) {
    if (isTargeted(name)) continue
    for (const ending of endings(name, budget)) if (candidates.has(ending)) others.add(ending)
  }
  const required = new Set<string>()
  for (const candidates of byEndings) {
    const covered = () => candidates.slice(0, -1).some((ending) => required.has(ending))
    for (const ending of candidates) {
      if (required.has(ending) || others.has(ending)) continue
      if (!covered()) {
        required.add(ending)
        break
      }
    }
  }
  return required.size > 0 && required.size < targets.size ? required : targets
}

/** Returns the endings of a name at its dots: `c`, `b.c`, `a.b.c` of `a.b.c`. A target matches a module if it equals one of its endings. */
function endings(name: string, budget: PatternBudget): string[] {
  const result: string[] = []
  // A look-up of an ending reads all its characters.
  budget.spend((name.split('.').length * name.length) / 10, 'target_modules')
  for (let dot = name.lastIndexOf('.'); dot >= 0; dot = dot === 0 ? -1 : name.lastIndexOf('.', dot - 1)) {
    result.push(name.slice(dot + 1))
  }
  return [...result, name]
}

/** Returns a test that checks whether a name equals a target, or ends with a dot and a target. Its time is linear in the length of the name. */
function endingTest(targets: ReadonlySet<string>): NameTest {
  const lengths = new Set(Array.from(targets, ({ length }) => length))
  return (name) => {
    for (const length of lengths) {
      const start = name.length - length
      const isEnding = start === 0 || (start > 0 && name.charAt(start - 1) === '.')
      if (isEnding && targets.has(name.slice(start))) return true
    }
    return false
  }
}

function compareLists(a: readonly string[], b: readonly string[]): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const difference = comparePythonStrings(a[i] ?? '', b[i] ?? '')
    if (difference !== 0) return difference
  }
  return a.length - b.length
}

type NameTest = (name: string) => boolean

function patternTest(targets: string, budget: PatternBudget): NameTest {
  const pattern = compilePythonPattern(targets, { option: 'target_modules', budget })
  return (name) => pattern.fullMatch(name)
}

/** Returns a test for modules that are excluded or saved whole. */
function exclusionTest(config: FourierFTConfig, budget: PatternBudget): NameTest {
  const { excludeModules, modulesToSave } = withTaskHeads(config)
  const tests: NameTest[] = []
  if (typeof excludeModules === 'string' && excludeModules !== '') {
    const pattern = compilePythonPattern(excludeModules, { option: 'exclude_modules', budget })
    tests.push((name) => pattern.fullMatch(name))
  } else if (excludeModules) {
    tests.push(endingTest(new Set(excludeModules)))
  }
  if (modulesToSave) tests.push(insideSavedModuleTest(modulesToSave, budget))
  return (name) => tests.some((test) => test(name))
}

/**
 * Returns a test for modules inside those of `modulesToSave`. In PEFT each of `modulesToSave` is a regular expression for a part of a module's
 * path. A plain name needs no engine.
 */
function insideSavedModuleTest(modulesToSave: readonly string[], budget: PatternBudget): NameTest {
  const isName = (text: string) => /^[\w-]+$/.test(text)
  const parts = new Set(modulesToSave.filter(isName))
  const patterns = modulesToSave
    .filter((module) => !isName(module))
    .map((module) =>
      compilePythonPattern(`(^|.*\\.)${module}($|\\..*)`, { option: 'modules_to_save', budget }),
    )
  return (name) =>
    name.split('.').some((part) => parts.has(part)) || patterns.some((pattern) => pattern.match(name))
}

/** Returns a test for names and name endings. Endings match only in the layers of `layersToTransform`. */
function nameTest(targets: ReadonlySet<string>, config: FourierFTConfig, budget: PatternBudget): NameTest {
  const isInLayers = layerTest(config, budget)
  const isTargeted = endingTest(targets)
  return (name) => targets.has(name) || (isTargeted(name) && isInLayers(name))
}

function layerTest({ layersToTransform, layersPattern }: FourierFTConfig, budget: PatternBudget): NameTest {
  if (layersToTransform === null) return () => true
  const indices = new Set(typeof layersToTransform === 'number' ? [layersToTransform] : layersToTransform)
  if (typeof layersToTransform !== 'number' && indices.size === 0) return () => true
  const lists = typeof layersPattern === 'string' ? [layersPattern] : (layersPattern ?? [])
  // The first number in the name is the index of the layer; a later one may be the index of an expert. Without a pattern, any list matches.
  const expressions =
    lists.length === 0 || layersPattern === ''
      ? ['.*?\\.[^.]*\\.(?P<idx>\\d+)\\.']
      : lists.map((list) => `(?:^|.*?\\.)${list}\\.(?P<idx>\\d+)\\.`)
  const patterns = expressions.map((expression) =>
    compilePythonPattern(expression, { option: 'layers_pattern', budget }),
  )
  return (name) => {
    for (const pattern of patterns) {
      const groups = pattern.groups(name)
      if (!groups) continue
      const index = groups.get('idx')
      return index !== undefined && indices.has(Number([...index].map(digitValue).join('')))
    }
    return false
  }
}

function nothingMatches(config: FourierFTConfig, names: readonly string[]): FourierFTError {
  const { targetModules, excludeModules, modulesToSave, layersToTransform, layersPattern } = config
  const wanted = typeof targetModules === 'string' ? [targetModules] : (targetModules ?? [])
  const limits = Object.entries({ excludeModules, modulesToSave, layersToTransform, layersPattern })
    .filter(([, value]) => value !== null)
    .map(([option, value]) => `${option} ${JSON.stringify(value)}`)
  const conditions = limits.length > 0 ? ` (with ${limits.join(', ')})` : ''
  const nearest = nearestNames(wanted, names)
  const suggestion =
    nearest.length > 0
      ? `the nearest of its ${names.length} modules: ${nearest.join(', ')}`
      : 'it has no modules'
  return new FourierFTError(
    'MODULE_NOT_FOUND',
    `targetModules ${JSON.stringify(targetModules)}${conditions} matches no module of the model; ${suggestion}`,
    { option: 'targetModules', expected: nearest, received: targetModules },
  )
}

/**
 * Which modules of a model an adapter's configuration means, and with how many coefficients: PEFT's rules, to the letter. It sees names
 * alone; what a module is, and whether its shape fits, is known elsewhere.
 *
 * @see https://github.com/huggingface/peft/blob/v0.21.0/src/peft/tuners/tuners_utils.py `check_target_module_exists`, `inject_adapter`
 */
import { FourierFTError } from '../errors.js'
import { type FourierFTConfig, withTaskHeads } from './config.js'
import { DEFAULT_TARGET_MODULES } from './default-target-modules.js'
import { nearestNames } from './nearest-names.js'
import { PatternBudget } from './pattern-budget.js'
import { digitValue } from './python-character-set.js'
import { comparePythonStrings } from './python-json.js'
import { compilePythonPattern, isPlain, type PythonPattern } from './python-pattern.js'
import { atOnce, type Steps } from './steps.js'

/** What PEFT takes from the model itself; needed only where the configuration leaves the choice to it. */
export interface ModelFacts {
  /** For `all-linear`: the names of the linear layers. Default: every name. */
  readonly linear?: Iterable<string>
  /**
   * For `all-linear`: the layer of the output embeddings, which is left out; null: there is nothing to leave out. Default: with the
   * task type SEQ_CLS the module `score` or `classifier`, else nothing.
   */
  readonly outputLayer?: string | null
  /** `model_type` of the model's own configuration, for a configuration without `targetModules`. */
  readonly modelType?: string
}

/** PEFT's name for a configuration that is meant to adapt nothing. */
const DUMMY_TARGET_MODULES = 'dummy-target-modules'
/** PEFT's name, in any case, for every linear layer but the output. */
const ALL_LINEAR = 'all-linear'
/** From this many targets on PEFT replaces them by the shortest endings that mean the same modules. */
const MIN_TARGETS_FOR_ENDINGS = 20

/**
 * The modules that the adapter of `config` has, in the order given.
 *
 * @param moduleNames all modules of the model, dotted, without `base_model.model.`
 * @throws FourierFTError MODULE_NOT_FOUND: none matches, with the nearest names; INVALID_PATTERN, also where all patterns together cost
 *   too much on these names; INVALID_OPTION: `targetModules` is null and the model type has no usual ones
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

/** As {@link matchModules}, but an empty list where nothing matches. */
export function findModules(
  config: FourierFTConfig,
  moduleNames: Iterable<string>,
  facts: ModelFacts = {},
): string[] {
  const names = [...moduleNames].filter((name) => name !== '')
  const budget = new PatternBudget()
  const targets = resolveTargets(config, names, facts, budget)
  if (targets === DUMMY_TARGET_MODULES) return []
  const excluded = exclusion(config, budget)
  const targeted =
    typeof targets === 'string' ? patternTest(targets, budget) : nameTest(targets, config, budget)
  return names.filter((name) => !excluded(name) && targeted(name))
}

/**
 * Whether there is a model in which the configuration adapts a module of that name. Some of a configuration can only be decided with
 * all modules of a model at hand (`all-linear`, no `targetModules`, twenty targets and more): then a module passes that some model
 * would have adapted.
 *
 * @throws FourierFTError INVALID_PATTERN
 */
export function targetTest(
  config: FourierFTConfig,
  budget = new PatternBudget(),
): (module: string) => boolean {
  const { targetModules } = config
  if (targetModules === DUMMY_TARGET_MODULES) return () => false
  const excluded = exclusion(config, budget)
  if (isOpen(targetModules)) return (module) => !excluded(module)
  const targeted =
    typeof targetModules === 'string'
      ? patternTest(targetModules, budget)
      : nameTest(new Set(targetModules), config, budget)
  return (module) => targeted(module) && !excluded(module)
}

/** Whether the model decides what is adapted. */
export function isOpen(targets: FourierFTConfig['targetModules']): targets is string | null {
  return targets === null || (typeof targets === 'string' && targets.toLowerCase() === ALL_LINEAR)
}

/**
 * Whether PEFT saves a module whole: the module itself or one that it is in has a name that ends in one of `modulesToSave`. So
 * DistilBERT's `pre_classifier` is saved with `classifier`.
 *
 * @see https://github.com/huggingface/peft/blob/v0.21.0/src/peft/utils/other.py `_set_trainable`
 */
export function isSavedWhole(config: FourierFTConfig, module: string): boolean {
  return savedWholeTest(config)(module)
}

/** {@link isSavedWhole} for many modules. */
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
 * The number of coefficients of a module: that of the first key of `nFrequencyPattern` which, read as a regular expression after a dot,
 * matches the end of its name; or of the key that is its name; or `nFrequency`.
 *
 * @throws FourierFTError INVALID_PATTERN
 * @see https://github.com/huggingface/peft/blob/v0.21.0/src/peft/tuners/fourierft/model.py `_create_and_replace`
 */
export function nFrequencyOf(config: FourierFTConfig, module: string): number {
  return nFrequenciesOf(config, [module]).get(module) as number
}

/**
 * As {@link nFrequencyOf}, of several modules: each pattern is compiled once.
 *
 * @throws FourierFTError INVALID_PATTERN, also where all patterns together cost too much on these names
 */
export function nFrequenciesOf(
  config: FourierFTConfig,
  modules: Iterable<string>,
): ReadonlyMap<string, number> {
  return atOnce(nFrequencySteps(config, modules))
}

/** The work of {@link nFrequenciesOf} in short steps. */
export function* nFrequencySteps(
  { nFrequency, nFrequencyPattern }: FourierFTConfig,
  modules: Iterable<string>,
  budget = new PatternBudget(),
): Steps<ReadonlyMap<string, number>> {
  const result = new Map<string, number>()
  let open = [...new Set(modules)]
  for (const [key, n] of nFrequencyPattern) {
    if (open.length === 0) break
    const matches = keyTest(key, budget)
    const others: string[] = []
    for (const module of open) {
      if (matches(module)) result.set(module, n)
      else others.push(module)
      yield
    }
    open = others
    budget.release()
  }
  for (const module of open) result.set(module, nFrequencyPattern.get(module) ?? nFrequency)
  return result
}

/** Whether a key of `n_frequency_pattern` means a module. Compiled patterns are large: this one is forgotten before the next is made. */
function keyTest(key: string, budget: PatternBudget): NameTest {
  const option = 'n_frequency_pattern'
  let pattern: PythonPattern | undefined
  const isLiteral = /^[\w.-]*$/.test(key)
  return (name) => {
    // A name is the usual key. It needs no engine: its dots stand for any character, everything else for itself.
    if (isLiteral && isPlain(name)) {
      budget.spend(1 + key.length / 10, option)
      const start = name.length - key.length
      if (name.charAt(start - 1) !== '.') return false
      for (let i = 0; i < key.length; i++)
        if (key.charAt(i) !== '.' && key.charAt(i) !== name.charAt(start + i)) return false
      return true
    }
    // The key goes in as it is: `a|b` has two branches, and only the second one has to end the name.
    pattern ??= compilePythonPattern(`.*\\.${key}$`, { option, budget })
    return pattern.match(name)
  }
}

/** One regular expression, or the names and name endings that are adapted. */
function resolveTargets(
  config: FourierFTConfig,
  names: readonly string[],
  facts: ModelFacts,
  budget: PatternBudget,
): string | ReadonlySet<string> {
  const targets = config.targetModules ?? usualTargets(facts.modelType)
  if (typeof targets === 'string') {
    if (!isOpen(targets)) return targets
    return shortestEndings(allLinear(config, names, facts), names, budget)
  }
  return shortestEndings(new Set(targets), names, budget)
}

function usualTargets(modelType: string | undefined): string | readonly string[] {
  const targets = modelType === undefined ? undefined : DEFAULT_TARGET_MODULES.get(modelType)
  if (targets) return targets
  throw new FourierFTError(
    'INVALID_OPTION',
    `targetModules is null and ${modelType === undefined ? 'no model type is given' : `there are no usual ones for ${JSON.stringify(modelType)}`}; ` +
      'name the modules to adapt in targetModules.',
    { option: 'targetModules', expected: 'module names or a regular expression', received: null },
  )
}

/** PEFT's heuristic `_maybe_include_all_linear_layers`: every linear layer but the output. */
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
 * PEFT's `_find_minimal_target_modules`. It seems to change nothing, but a target that was a full name becomes an ending, and
 * `layers_to_transform` restricts endings alone.
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

/** `c`, `b.c`, `a.b.c` of `a.b.c`: a target means a module when it is one of these. */
function endings(name: string, budget: PatternBudget): string[] {
  const result: string[] = []
  // Each has to be read to its end to be found among others.
  budget.spend((name.split('.').length * name.length) / 10, 'target_modules')
  for (let dot = name.lastIndexOf('.'); dot >= 0; dot = dot === 0 ? -1 : name.lastIndexOf('.', dot - 1)) {
    result.push(name.slice(dot + 1))
  }
  return [...result, name]
}

/** Whether a name is one of the targets or ends with a dot and one; linear in the name, whatever dots it has. */
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

/** Excluded modules, and those that are saved whole. */
function exclusion(config: FourierFTConfig, budget: PatternBudget): NameTest {
  const { excludeModules, modulesToSave } = withTaskHeads(config)
  const tests: NameTest[] = []
  if (typeof excludeModules === 'string' && excludeModules !== '') {
    const pattern = compilePythonPattern(excludeModules, { option: 'exclude_modules', budget })
    tests.push((name) => pattern.fullMatch(name))
  } else if (excludeModules) {
    tests.push(endingTest(new Set(excludeModules)))
  }
  if (modulesToSave) tests.push(wholeTest(modulesToSave, budget))
  return (name) => tests.some((test) => test(name))
}

/** PEFT reads each name as a regular expression of a part of a module's path; a plain one needs none. */
function wholeTest(modulesToSave: readonly string[], budget: PatternBudget): NameTest {
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

/** Names and name endings; the endings only in the layers that are asked for. */
function nameTest(targets: ReadonlySet<string>, config: FourierFTConfig, budget: PatternBudget): NameTest {
  const inLayers = layerTest(config, budget)
  const isTargeted = endingTest(targets)
  return (name) => targets.has(name) || (isTargeted(name) && inLayers(name))
}

function layerTest({ layersToTransform, layersPattern }: FourierFTConfig, budget: PatternBudget): NameTest {
  if (layersToTransform === null) return () => true
  const indices = new Set(typeof layersToTransform === 'number' ? [layersToTransform] : layersToTransform)
  if (typeof layersToTransform !== 'number' && indices.size === 0) return () => true
  const lists = typeof layersPattern === 'string' ? [layersPattern] : (layersPattern ?? [])
  // The first number in the name is the layer's; a later one may be that of an expert. Without a pattern any list will do.
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
  const among = limits.length > 0 ? ` (with ${limits.join(', ')})` : ''
  const nearest = nearestNames(wanted, names)
  const hint =
    nearest.length > 0
      ? `The nearest of its ${names.length} modules: ${nearest.join(', ')}.`
      : 'It has no modules.'
  return new FourierFTError(
    'MODULE_NOT_FOUND',
    `targetModules ${JSON.stringify(targetModules)}${among} matches no module of the model. ${hint}`,
    { option: 'targetModules', expected: nearest, received: targetModules },
  )
}

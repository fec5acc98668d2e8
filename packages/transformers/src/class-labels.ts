/**
 * The names of an adapter's classes. PEFT's files have none, so they are in the metadata of the safetensors file, which PEFT ignores: `id2label` and
 * `problem_type`, as in config.json, both as JSON.
 */
import { Adapter, type Applied, type Choice, FourierFTError, parseJson } from '@fourierft/core'
import type { PretrainedConfig } from '@huggingface/transformers'

/** How a pipeline turns logits into scores. transformers.js uses the sigmoid for several labels, and otherwise the softmax. */
export type ProblemType = 'single_label_classification' | 'multi_label_classification' | 'regression'

export interface ClassLabels {
  /** The names by the ids of the classes. */
  readonly names: readonly string[]
  readonly problemType?: ProblemType
}

const NAMES_KEY = 'id2label'
const PROBLEM_KEY = 'problem_type'
const PROBLEM_TYPES: readonly unknown[] = [
  'single_label_classification',
  'multi_label_classification',
  'regression',
] satisfies readonly ProblemType[]

/** Well above real models, which have up to some ten thousand classes. */
const LIMITS = { maxLength: 4 * 1024 * 1024, maxValues: 200_000 }

/** Returns a copy of the adapter with these labels in its metadata. */
export function withLabels(adapter: Adapter, { names, problemType }: ClassLabels): Adapter {
  const { [PROBLEM_KEY]: _, ...others } = adapter.metadata
  const metadata = {
    ...others,
    [NAMES_KEY]: JSON.stringify(Object.fromEntries(names.entries())),
    ...(problemType && { [PROBLEM_KEY]: JSON.stringify(problemType) }),
  }
  const { config, modules, savedTensors, baseTensors, ignoredTensors } = adapter
  return new Adapter({ config, modules, savedTensors, baseTensors, ignoredTensors, metadata })
}

/**
 * Reads the labels of an adapter.
 *
 * @returns undefined if it has none
 * @throws {FourierFTError} `INVALID_SAFETENSORS` for labels that are not `{ "0": "first", "1": "second", … }` with different names, or that are not as
 *   many as the rows of a layer in `modulesToSave`; `INVALID_JSON`
 */
export function labelsOf({ metadata, savedTensors }: Adapter): ClassLabels | undefined {
  const text = metadata[NAMES_KEY]
  if (text === undefined) return undefined
  const invalid = (key: string, expected: string, received: unknown) =>
    new FourierFTError('INVALID_SAFETENSORS', `${key} of the metadata: expected ${expected}`, {
      tensor: '__metadata__',
      expected,
      received,
    })
  const read = (key: string, json: string) => parseJson(json, `${key} of the metadata`, LIMITS)
  const names = namesIn(read(NAMES_KEY, text))
  if (names === undefined)
    throw invalid(NAMES_KEY, 'the names of the classes by their ids, from 0, all different', text)
  const widths = [...savedTensors.values()].flatMap(({ shape }) => (shape.length === 2 ? [shape[0]] : []))
  if (widths.length > 0 && !widths.includes(names.length))
    throw invalid(
      NAMES_KEY,
      `as many names as a layer in modulesToSave has rows (${widths.join(', ')}); received ${names.length}`,
      names.length,
    )
  const problem = metadata[PROBLEM_KEY]
  if (problem === undefined) return { names }
  const problemType = read(PROBLEM_KEY, problem)
  if (!isProblemType(problemType)) throw invalid(PROBLEM_KEY, `one of ${PROBLEM_TYPES.join(', ')}`, problem)
  return { names, problemType }
}

/** A wider head is that of a language model. */
const MOST_NUMBERED = 1000

/**
 * Returns the names that transformers gives the classes of a head without names, `LABEL_0`, `LABEL_1`, …
 *
 * @returns undefined if no layer has another width than the model's
 */
export function numberedLabels(
  replaced: readonly {
    readonly weight: { readonly length: number }
    readonly inFeatures: number
    readonly isResized: boolean
  }[],
): ClassLabels | undefined {
  const head = replaced.find(({ isResized }) => isResized)
  const width = head ? head.weight.length / head.inFeatures : 0
  if (width === 0 || width > MOST_NUMBERED) return undefined
  return { names: Array.from({ length: width }, (_, id) => `LABEL_${id}`) }
}

function namesIn(value: unknown): string[] | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const names = Object.values(value)
  const keys = Object.keys(value)
  // JavaScript puts integer keys first, in ascending order.
  const isComplete = keys.length > 0 && keys.every((key, id) => key === String(id))
  const isNames = names.every((name) => typeof name === 'string') && new Set(names).size === names.length
  return isComplete && isNames ? names : undefined
}

function isProblemType(value: unknown): value is ProblemType {
  return PROBLEM_TYPES.includes(value)
}

/** An adapter with the labels that were read from its file. */
interface Labelled {
  readonly labels: ClassLabels | undefined
  readonly replaces: ReadonlyMap<string, string>
  readonly whole: { readonly name: string }
}

/**
 * Returns the labels of adapters that are added: those of the adapter that replaces the head, or those that all of them have. Undefined: the model's own.
 */
export function labelsOfSum(added: readonly Applied<Labelled>[]): ClassLabels | undefined {
  const labelled = added.flatMap(({ adapter }) => (adapter.labels ? [adapter] : []))
  const replacing = labelled.filter(({ replaces }) => replaces.size > 0)
  const found = (replacing.length > 0 ? replacing : labelled).map(({ labels }) => labels)
  const isSame = found.every((labels) => JSON.stringify(labels) === JSON.stringify(found[0]))
  return isSame ? found[0] : undefined
}

/**
 * Returns the configuration that pipelines read in a call: the model's own, or a copy with the labels of the call's adapters. If rows have different labels,
 * reading the labels of the copy throws `UNSUPPORTED`: a pipeline would name the classes of all rows alike. A call of the model, which only gives logits,
 * does not read them.
 */
export function configInCall(config: PretrainedConfig, choice: Choice<Labelled>): PretrainedConfig {
  if ('added' in choice) {
    const labels = labelsOfSum(choice.added)
    return labels ? configWithLabels(config, labels) : config
  }
  const rows = new Map(choice.perRow.map((row) => [row?.adapter.labels, row?.adapter]))
  const [[labels, first] = [undefined, undefined]] = rows
  if (rows.size > 1) {
    const own = labelsOfConfig(config)
    const textOf = (of: ClassLabels | undefined) =>
      JSON.stringify([(of ?? own).names, of?.problemType ?? own.problemType])
    const other = Array.from(rows).find(([others]) => textOf(others) !== textOf(labels))
    if (other) return configWithoutLabels(config, [first, other[1]])
  }
  return labels ? configWithLabels(config, labels) : config
}

/** Returns a copy of the configuration whose labels cannot be read, because these adapters of rows have different ones. Undefined: the model's own. */
function configWithoutLabels(
  config: PretrainedConfig,
  adapters: readonly (Labelled | undefined)[],
): PretrainedConfig {
  const copy = Object.assign(Object.create(Object.getPrototypeOf(config)), config)
  const [first, second] = adapters.map((adapter) =>
    adapter ? `adapter '${adapter.whole.name}'` : 'the base model',
  )
  // Copies of the configuration must not read the property.
  for (const property of ['id2label', 'label2id'])
    Object.defineProperty(copy, property, {
      enumerable: false,
      get() {
        throw new FourierFTError('UNSUPPORTED', `names: ${first} and ${second} have different labels`, {
          option: 'names',
          advice:
            'classify the rows with other labels in another call of the pipeline, or read the logits of the model',
        })
      },
    })
  return copy
}

/** Returns a copy of the model's configuration with these labels, which pipelines read. */
export function configWithLabels(
  config: PretrainedConfig,
  { names, problemType }: ClassLabels,
): PretrainedConfig {
  const copy = Object.assign(Object.create(Object.getPrototypeOf(config)), config)
  return Object.assign(copy, {
    id2label: Object.fromEntries(names.entries()),
    label2id: Object.fromEntries(names.map((name, id) => [name, id])),
    num_labels: names.length,
    ...(problemType && { problem_type: problemType }),
  })
}

/** Returns the labels of a model's own head. */
export function labelsOfConfig(config: PretrainedConfig): {
  readonly names: readonly string[]
  readonly problemType?: string
} {
  const { id2label = {}, problem_type: problemType } = config as {
    readonly id2label?: Readonly<Record<string, string>>
    readonly problem_type?: string | null
  }
  const ids = Object.keys(id2label).sort((a, b) => Number(a) - Number(b))
  return { names: ids.map((id) => id2label[id]), ...(problemType ? { problemType } : {}) }
}

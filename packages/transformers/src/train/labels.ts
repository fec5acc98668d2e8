/** Labels of rows: names or numbers → the classes of the model, or new ones. */
import { FourierFTError, nearestNames } from '@fourierft/core'
import { numberOf, rowError, shown } from './row-error.js'

/** A class by its name or by its number. */
export type Label = string | number

/** The names of transformers' field `problem_type`. */
export type ProblemType = 'single_label_classification' | 'multi_label_classification' | 'regression'

/** The labels of the model's head. */
export interface KnownLabels {
  /** The names by number; empty if the model has no head. */
  readonly names: readonly string[]
  /** `problem_type` of the model's configuration. */
  readonly problemType?: string | undefined
}

/** The labels of a training. */
export interface Labels {
  readonly problemType: ProblemType
  /** The names by number. A regression has one output, with the name `LABEL_0` if it is new. */
  readonly names: readonly string[]
  /** Whether the model does not have these labels, so that it needs a new head. */
  readonly isNew: boolean
}

/** The labels of one row, with the row's position in the data. */
export interface RowLabels {
  readonly position: number
  readonly label: Label | readonly Label[]
}

/** Checks a label that may be anything. @throws {FourierFTError} `INVALID_OPTION` */
export function checkLabel(value: unknown, field: string, position: number): Label {
  if (typeof value === 'string' && value !== '') return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  throw rowError(
    position,
    field,
    `expected the name of a class, or a number; received ${value === '' ? 'an empty text' : shown(value)}`,
    { received: value },
  )
}

/** Checks the labels of a row: one label, or an array of several. @throws {FourierFTError} `INVALID_OPTION` */
export function checkLabels(value: unknown, field: string, position: number): Label | readonly Label[] {
  return Array.isArray(value)
    ? value.map((label) => checkLabel(label, field, position))
    : checkLabel(value, field, position)
}

/**
 * Chooses the labels of a training:
 * - arrays are several labels for each row;
 * - numbers are a regression if the model has one output, or if one of them is a fraction;
 * - the model's labels are used if it has all of the rows' labels, and its head is of that kind. Otherwise the labels of the rows, sorted, are new
 *   ones, or the model's labels get a new head of the other kind.
 *
 * @throws {FourierFTError} `INVALID_OPTION` with the row, for arrays among single labels, and for numbers that are not classes of the model
 */
export function labelsOf(rows: readonly RowLabels[], known: KnownLabels): Labels {
  const isMulti = rows.some(({ label }) => Array.isArray(label))
  const single = isMulti ? rows.find(({ label }) => !Array.isArray(label)) : undefined
  if (single)
    throw rowError(single.position, 'label', 'expected an array, because other rows have arrays of labels', {
      received: single.label,
    })
  if (!isMulti && isRegression(rows, known)) {
    const isNew = known.names.length !== 1
    return { problemType: 'regression', names: isNew ? [nameOf(0)] : known.names, isNew }
  }
  const hasMultiHead = known.problemType === 'multi_label_classification'
  const problemType =
    isMulti || (hasMultiHead && known.names.length > 0)
      ? 'multi_label_classification'
      : 'single_label_classification'
  const labels = rows.flatMap(({ position, label }) =>
    [label].flat().map((label) => ({ position, label: label as Label })),
  )
  const { names, isNew } = namesOf(labels, known.names, problemType)
  // A pipeline turns logits into scores as the head's problem type says.
  return {
    problemType,
    names,
    isNew: isNew || problemType !== (known.problemType ?? 'single_label_classification'),
  }
}

const PROBLEM_TYPES: readonly string[] = [
  'single_label_classification',
  'multi_label_classification',
  'regression',
] satisfies ProblemType[]

/** Returns the labels of an evaluation: those of the head, whatever labels the rows have. */
export function labelsOfHead({ names, problemType }: KnownLabels): Labels {
  const isKnown = problemType !== undefined && PROBLEM_TYPES.includes(problemType)
  const byCount = names.length === 1 ? 'regression' : 'single_label_classification'
  return { names, problemType: isKnown ? (problemType as ProblemType) : byCount, isNew: false }
}

function isRegression(rows: readonly RowLabels[], { names, problemType }: KnownLabels): boolean {
  const numbers = rows.every(({ label }) => typeof label === 'number')
  if (numbers && rows.some(({ label }) => !Number.isInteger(label))) return true
  const hasOneOutput = names.length === 1 || problemType === 'regression'
  return (
    hasOneOutput && rows.every(({ label }) => String(label).trim() !== '' && Number.isFinite(Number(label)))
  )
}

interface PlacedLabel {
  readonly position: number
  readonly label: Label
}

function namesOf(
  labels: readonly PlacedLabel[],
  known: readonly string[],
  problemType: ProblemType,
): Pick<Labels, 'names' | 'isNew'> {
  const names = new Set<string>()
  let largest = -1
  for (const { position, label } of labels) {
    if (typeof label === 'string') names.add(label)
    else if (known.length > 0) names.add(known[checkId(label, known.length, position)])
    else largest = Math.max(largest, checkId(label, MAX_CLASSES, position))
  }
  if (largest >= 0) {
    const named = labels.find(({ label }) => typeof label === 'string')
    if (named)
      throw rowError(named.position, 'label', 'expected a number, because other rows have numbers', {
        received: named.label,
      })
    return checkCount(
      Array.from({ length: largest + 1 }, (_, id) => nameOf(id)),
      problemType,
    )
  }
  const knownNames = new Set(known)
  if (known.length > 0 && [...names].every((name) => knownNames.has(name)))
    return { names: known, isNew: false }
  return checkCount([...names].sort(), problemType)
}

/** A number beyond this is not the number of a class, but a mistake. */
const MAX_CLASSES = 100_000

function checkCount(names: readonly string[], problemType: ProblemType): Pick<Labels, 'names' | 'isNew'> {
  if (names.length === 0 || (names.length === 1 && problemType === 'single_label_classification'))
    throw new FourierFTError(
      'INVALID_OPTION',
      names.length === 0 ? 'data: no row has a label' : `data: all rows have the label "${names[0]}"`,
      { option: 'data', received: names, advice: 'give rows of at least two classes' },
    )
  return { names, isNew: true }
}

function checkId(id: number, count: number, position: number): number {
  if (Number.isInteger(id) && id >= 0 && id < count) return id
  throw rowError(position, 'label', `expected the number of a class in [0, ${count}); received ${id}`, {
    expected: count,
    received: id,
  })
}

/** The name that transformers gives to a class without a name. */
function nameOf(id: number): string {
  return `LABEL_${id}`
}

/** Converts labels to numbers of classes. */
export class LabelIds {
  readonly #names: readonly string[]
  readonly #ids: ReadonlyMap<string, number>

  constructor(names: readonly string[]) {
    this.#names = names
    this.#ids = new Map(names.map((name, id) => [name, id]))
  }

  /** @throws {FourierFTError} `INVALID_OPTION` with the row, for a label that the training does not have */
  idOf(label: Label, field: string, position: number): number {
    if (typeof label === 'number') return checkId(label, this.#names.length, position)
    const id = this.#ids.get(label)
    if (id !== undefined) return id
    throw rowError(position, field, `there is no label "${label}"`, {
      expected: this.#names,
      received: label,
      advice: `the nearest labels are ${nearestNames([label], this.#names).join(', ')}`,
    })
  }
}

/** The target of one row: the number of its class, 1 for each of its classes and 0 for the others, or its number. */
export function targetOf(
  label: Label | readonly Label[],
  { problemType, ids, count }: { problemType: ProblemType; ids: LabelIds; count: number },
  position: number,
): readonly number[] {
  if (problemType === 'regression') return [numberOf(label, 'label', position)]
  const labels = [label].flat() as Label[]
  if (problemType === 'single_label_classification') {
    if (Array.isArray(label))
      throw rowError(position, 'label', 'expected one label; received an array', { received: label })
    return [ids.idOf(labels[0], 'label', position)]
  }
  const target = new Array<number>(count).fill(0)
  for (const name of labels) target[ids.idOf(name, 'label', position)] = 1
  return target
}

/** The labels of a task that has classes. */
export function classesOf(labels: Labels | undefined): Labels {
  if (!labels) throw new Error('a task with classes needs labels')
  return labels
}

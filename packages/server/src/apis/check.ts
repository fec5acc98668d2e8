/** Checks the bodies of requests. An error names the field, what was expected and what was received. */
import * as v from 'valibot'
import { ServerError } from '../errors.js'

/** Returns what the schema makes of a value. @throws {ServerError} `invalid_value` with the field as `param` */
export function check<const Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  prefix = '',
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value, { abortEarly: true })
  if (result.success) return result.output
  const [issue] = result.issues
  const path = [prefix, v.getDotPath(issue)].filter((part) => part).join('.')
  const received = issue.kind === 'schema' && issue.received === 'undefined' ? 'nothing' : issue.received
  const problem =
    issue.message || `expected ${issue.expected ?? 'another value'} but received ${shortened(received)}`
  throw new ServerError('invalid_value', `${path || 'the body'}: ${problem}`, path ? { param: path } : {})
}

/** A rule that a value breaks: the same error as those of `check`. */
export function invalid(param: string, problem: string): ServerError {
  return new ServerError('invalid_value', `${param}: ${problem}`, { param })
}

const shortened = (text: string) => (text.length <= 60 ? text : `${text.slice(0, 60)}…`)

// Schemas that several APIs use. An empty message stands for the words of `check`.
const NONE = ''
export const text = v.string(NONE)
export const integer = (least: number, most: number) =>
  v.pipe(
    v.number(NONE),
    v.integer(`expected an integer`),
    v.minValue(least, `expected at least ${least}`),
    v.maxValue(most, `expected at most ${most}`),
  )
export const number = (least: number, most: number) =>
  v.pipe(
    v.number(NONE),
    v.minValue(least, `expected at least ${least}`),
    v.maxValue(most, `expected at most ${most}`),
  )
export const boolean = v.boolean(NONE)
export const oneOf = <const Values extends readonly string[]>(values: Values) =>
  v.picklist(values, `expected one of ${values.join(', ')}`)
export const list = <Item extends v.GenericSchema>(item: Item, least: number, most: number) =>
  v.pipe(
    v.array(item, NONE),
    v.minLength(least, `expected at least ${least} items`),
    v.maxLength(most, `expected at most ${most} items`),
  )
/** May be missing or null, as in OpenAI's API. */
export const optional = <Schema extends v.GenericSchema>(schema: Schema) => v.nullish(schema)

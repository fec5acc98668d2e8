/** The names of adapters in requests. They are checked before anything looks them up, so they can never become paths. */
import { escapeUnprintable } from '@fourierft/core'
import { ServerError } from './errors.js'

/** One part of a path on every system: no separators, no `..`, no hidden files, no options of a command line. */
const PART = '[A-Za-z0-9_][A-Za-z0-9._-]{0,199}'
const ADAPTER_NAME = new RegExp(`^${PART}$`)
const HUB_NAME = new RegExp(`^${PART}/${PART}$`)

const RULE =
  'a name has 1 to 200 letters, digits and the characters . _ -, and does not begin with . or -; only adapters of the hub have a slash, after their owner'

/** Whether a name can be that of a folder: 1 to 200 letters, digits, `.`, `_` and `-`, the first of them not `.` or `-`. */
export function isAdapterName(name: string): boolean {
  return ADAPTER_NAME.test(name)
}

/** Whether a name can be that of a repository of the hub: `owner/name`. */
export function isHubName(name: string): boolean {
  return HUB_NAME.test(name)
}

/**
 * Returns the adapter that a request names, null for the base model. A request names the base model, `base:adapter`, or the adapter alone.
 *
 * @param baseModel the base model's name, as the server's user gave it; it may be a path
 * @throws {ServerError} `model_not_found` for a text that is no name
 */
export function parseModelName(name: string, baseModel: string): string | null {
  if (name === baseModel) return null
  const prefix = `${baseModel}:`
  const adapter = name.startsWith(prefix) ? name.slice(prefix.length) : name
  if (isAdapterName(adapter) || isHubName(adapter)) return adapter
  throw new ServerError('model_not_found', `there is no model '${shown(name)}': ${RULE}`, { param: 'model' })
}

/** Makes the error of a name that no resolver knows. */
export function adapterNotFound(name: string): ServerError {
  return new ServerError('model_not_found', `there is no model or adapter '${shown(name)}'`, {
    param: 'model',
  })
}

/** Most characters of an unchecked name that a message shows. */
const MAX_SHOWN = 200

function shown(name: string): string {
  return escapeUnprintable(name.length > MAX_SHOWN ? `${name.slice(0, MAX_SHOWN)}…` : name)
}

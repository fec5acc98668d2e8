/**
 * The settings of transformers.js' `env` that determine where files come from: folders, caches, the host. Adapters are loaded from the same
 * locations as models, so a program that uses a mirror, or no network, contacts no other host.
 *
 * A program that gets transformers.js by `require` has a CommonJS copy of it with a separate `env`. A setting of that copy is used unless the same
 * setting is changed in this copy.
 */
import { env } from '@huggingface/transformers'
import { platform } from '#platform'

export type Settings = Pick<typeof env, (typeof FIELDS)[number]>

const FIELDS = [
  'allowRemoteModels',
  'remoteHost',
  'remotePathTemplate',
  'allowLocalModels',
  'localModelPath',
  'useFS',
  'useFSCache',
  'cacheDir',
] as const

export const DEFAULT_HOST = 'https://huggingface.co/'
export const DEFAULT_TEMPLATE = '{model}/resolve/{revision}/'

/** The values that were copied from the CommonJS copy, and the values that they replaced. */
const copied = new Map<keyof Settings, { readonly value: unknown; readonly replaced: unknown }>()

/** Returns `env`, updated with the settings of the CommonJS copy. */
export function settings(): Settings {
  const commonJsEnv = platform.envOfCommonJsCopy()
  if (commonJsEnv) for (const field of FIELDS) copySetting(field, commonJsEnv, env)
  return env
}

/** Makes transformers.js use the hub that the environment variable `HF_ENDPOINT` specifies, unless `env` specifies a host. */
export function useHubOfEnvironment(): void {
  const { remoteHost } = settings()
  const endpoint = platform.hubEndpoint()
  if (endpoint !== undefined && remoteHost === DEFAULT_HOST)
    env.remoteHost = `${endpoint.replace(/\/$/, '')}/`
}

/** Whether the user has chosen the folder: transformers.js' default is inside its package. */
export function isChosenFolder(folder: string | null): folder is string {
  return folder !== null && !/@huggingface[\\/]transformers[\\/](\.cache|models)[\\/]?$/.test(folder)
}

function copySetting<Field extends keyof Settings>(field: Field, source: Settings, target: Settings): void {
  const copy = copied.get(field)
  const isSetInTarget = copy ? target[field] !== copy.value : !isDefault(field, target[field])
  if (isSetInTarget) return
  if (!isDefault(field, source[field])) {
    copied.set(field, { value: source[field], replaced: copy ? copy.replaced : target[field] })
    target[field] = source[field]
  } else if (copy) {
    copied.delete(field)
    target[field] = copy.replaced as Settings[Field]
  }
}

function isDefault(field: keyof Settings, value: unknown): boolean {
  if (field === 'remoteHost') return value === DEFAULT_HOST
  if (field === 'remotePathTemplate') return value === DEFAULT_TEMPLATE
  if (field === 'localModelPath' || field === 'cacheDir') return !isChosenFolder(value as string | null)
  // The CommonJS copy exists only in Node, where all other settings are true by default.
  return value === true
}

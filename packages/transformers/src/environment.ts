/**
 * The settings of transformers.js' `env` that decide where files come from: folders, caches, the host. Adapters follow them as models do, so a
 * machine behind a mirror, or without a network, contacts no other host.
 *
 * A program that gets transformers.js by `require` has another copy of it, with its own `env`. The settings of that copy are used too, unless
 * they are changed in this copy.
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

/** The values that were taken from the other copy, and the values that they replaced. */
const adopted = new Map<keyof Settings, { readonly value: unknown; readonly before: unknown }>()

/** `env`, with the settings of the other copy. */
export function settings(): Settings {
  const other = platform.envOfRequiredCopy()
  if (other) for (const field of FIELDS) adopt(field, env, other)
  return env
}

/** Makes transformers.js use the hub of the environment variable `HF_ENDPOINT`, unless `env` names one. */
export function useHubOfEnvironment(): void {
  const { remoteHost } = settings()
  const endpoint = platform.hubEndpoint()
  if (endpoint !== undefined && remoteHost === DEFAULT_HOST)
    env.remoteHost = `${endpoint.replace(/\/$/, '')}/`
}

/** Whether the folder is not transformers.js' default. */
export function isChosenFolder(folder: string | null): folder is string {
  return folder !== null && !/@huggingface[\\/]transformers[\\/](\.cache|models)[\\/]?$/.test(folder)
}

function adopt<Field extends keyof Settings>(field: Field, target: Settings, other: Settings): void {
  const taken = adopted.get(field)
  const isSetHere = taken ? target[field] !== taken.value : !isDefault(field, target[field])
  if (isSetHere) return
  if (!isDefault(field, other[field])) {
    adopted.set(field, { value: other[field], before: taken ? taken.before : target[field] })
    target[field] = other[field]
  } else if (taken) {
    adopted.delete(field)
    target[field] = taken.before as Settings[Field]
  }
}

function isDefault(field: keyof Settings, value: unknown): boolean {
  if (field === 'remoteHost') return value === DEFAULT_HOST
  if (field === 'remotePathTemplate') return value === DEFAULT_TEMPLATE
  if (field === 'localModelPath' || field === 'cacheDir') return !isChosenFolder(value as string | null)
  // The other copy exists only in Node, where these are true by default.
  return value === true
}

/**
 * Where files come from, as transformers.js' `env` says at the time of a call: folders, caches, the host. Adapters follow it as models do, so
 * a machine behind a mirror, or without any network, asks nobody else.
 *
 * A program that gets transformers.js by `require` has another copy of it, with an `env` of its own. What is set there counts here too,
 * unless it is set in this copy.
 */
import { env } from '@huggingface/transformers'
import { platform } from '#platform'

/** The part of `env` that decides where files come from. */
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

/** What was taken from the other copy, and what stood here before. */
const adopted = new Map<keyof Settings, { readonly value: unknown; readonly before: unknown }>()

/** `env`, with what the other copy's says. */
export function settings(): Settings {
  const other = platform.requiredEnv()
  if (other) for (const field of FIELDS) adopt(field, env, other)
  return env
}

/** Has transformers.js ask the hub that the environment names (`HF_ENDPOINT`), unless `env` names one. */
export function useHubOfEnvironment(): void {
  const { remoteHost } = settings()
  const endpoint = platform.hubEndpoint()
  if (endpoint !== undefined && remoteHost === DEFAULT_HOST)
    env.remoteHost = `${endpoint.replace(/\/$/, '')}/`
}

/** Whether transformers.js' `cacheDir` is a folder that somebody chose. */
export function isChosenFolder(folder: string | null): folder is string {
  return folder !== null && !/@huggingface[\\/]transformers[\\/](\.cache|models)[\\/]?$/.test(folder)
}

function adopt<Field extends keyof Settings>(field: Field, own: Settings, other: Settings): void {
  const taken = adopted.get(field)
  const isOwn = taken ? own[field] !== taken.value : !isDefault(field, own[field])
  if (isOwn) return
  if (!isDefault(field, other[field])) {
    adopted.set(field, { value: other[field], before: taken ? taken.before : own[field] })
    own[field] = other[field]
  } else if (taken) {
    adopted.delete(field)
    own[field] = taken.before as Settings[Field]
  }
}

function isDefault(field: keyof Settings, value: unknown): boolean {
  if (field === 'remoteHost') return value === DEFAULT_HOST
  if (field === 'remotePathTemplate') return value === DEFAULT_TEMPLATE
  if (field === 'localModelPath' || field === 'cacheDir') return !isChosenFolder(value as string | null)
  // The other copy exists in Node alone, where these are true.
  return value === true
}

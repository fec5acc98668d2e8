/** Node: directories, the cache of the hub, and the hub's settings in the environment. */
import { homedir } from 'node:os'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { FourierFTError } from '../errors.js'
import { isDirectory, readDirectory } from '../files/sources/directory.js'
import { openHubCache } from '../files/sources/hub-cache.js'
import { writeDirectory } from '../files/write-directory.js'
import type { FileSystem, Platform } from './platform.js'

const fileSystem: FileSystem = {
  isDirectory,
  readDirectory,
  writeDirectory,
  openHubCache,
  hubEnvironment() {
    const { HF_ENDPOINT, HF_HUB_OFFLINE } = process.env
    return {
      ...(HF_ENDPOINT && { endpoint: HF_ENDPOINT }),
      offline: /^(1|on|yes|true)$/i.test(HF_HUB_OFFLINE ?? ''),
    }
  },
  resolvePath,
}

export const platform: Platform = { fileSystem }

function resolvePath(path: unknown, option: string): string {
  const isUrl = typeof path === 'string' && /^[a-z][a-z\d+.-]+:\/\//i.test(path)
  if (typeof path === 'string' && path !== '' && !isUrl) {
    return resolve(path.replace(/^~(?=$|[/\\])/, homedir()))
  }
  const expected = 'the path of a directory, or a file: URL object'
  const invalid = (received: string, cause?: unknown) =>
    new FourierFTError('INVALID_OPTION', `${option}: expected ${expected}; received ${received}`, {
      option,
      expected,
      received: path instanceof URL ? path.href : path,
      cause,
    })
  if (isUrl) throw invalid(`a URL as text, ${path}`)
  if (!(path instanceof URL))
    throw invalid(path === '' ? 'an empty string' : path === null ? 'null' : typeof path)
  if (path.protocol !== 'file:') throw invalid(`a ${path.protocol} URL`)
  try {
    return fileURLToPath(path)
  } catch (cause) {
    throw invalid(`${path.href} (${cause instanceof Error ? cause.message : cause})`, cause)
  }
}

/** What needs a file system. `#node-files` is this file in Node and `no-node-files` elsewhere: see `imports` in package.json. */
import { homedir } from 'node:os'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { AdapterBytes } from '../backend.js'
import { FourierFTError } from '../errors.js'
import type { AdapterFiles } from './adapter-files.js'
import { isDirectory, readDirectory } from './sources/directory.js'
import type { HubCache } from './sources/hub.js'
import { openHubCache } from './sources/hub-cache.js'
import { writeDirectory } from './write-directory.js'

export interface NodeFiles {
  isDirectory(path: string): Promise<boolean>
  readDirectory(path: string, maxBytes: number, subfolder: string): Promise<AdapterFiles>
  writeDirectory(path: string, files: AdapterBytes): Promise<void>
  openHubCache(repository: string, cacheDir?: string): HubCache
  /** What the environment says about the hub, as huggingface_hub reads it: `HF_ENDPOINT` and `HF_HUB_OFFLINE`. */
  hubEnvironment(): { readonly endpoint?: string; readonly offline: boolean }
  /**
   * An absolute path, from one that may begin with `~` and from a `file:` URL.
   *
   * @param option names the argument in errors
   * @throws {FourierFTError} `INVALID_OPTION` for what names no directory of this machine
   */
  resolvePath(path: string | URL, option: string): string
}

export const nodeFiles: NodeFiles | undefined = {
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

function resolvePath(path: unknown, option: string): string {
  const isUrl = typeof path === 'string' && /^[a-z][a-z\d+.-]+:\/\//i.test(path)
  if (typeof path === 'string' && path !== '' && !isUrl) {
    return resolve(path.replace(/^~(?=$|[/\\])/, homedir()))
  }
  const expected = 'a path, or a URL object of file:, of a directory'
  const refuse = (received: string, cause?: unknown) =>
    new FourierFTError('INVALID_OPTION', `${option}: expected ${expected}; received ${received}`, {
      option,
      expected,
      received: path instanceof URL ? path.href : path,
      cause,
    })
  if (isUrl) throw refuse(`the text of a URL, ${path}`)
  if (!(path instanceof URL))
    throw refuse(path === '' ? 'an empty text' : path === null ? 'null' : typeof path)
  if (path.protocol !== 'file:') throw refuse(`a URL of ${path.protocol}`)
  try {
    return fileURLToPath(path)
  } catch (cause) {
    throw refuse(`${path.href} (${cause instanceof Error ? cause.message : cause})`, cause)
  }
}

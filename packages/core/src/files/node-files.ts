/** What needs a file system. `#node-files` is this file in Node and `no-node-files` elsewhere: see `imports` in package.json. */
import { homedir } from 'node:os'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { AdapterBytes } from '../backend.js'
import type { AdapterFiles } from './adapter-files.js'
import { isDirectory, readDirectory } from './sources/directory.js'
import type { HubCache } from './sources/hub.js'
import { openHubCache } from './sources/hub-cache.js'
import { writeDirectory } from './write-directory.js'

export interface NodeFiles {
  isDirectory(path: string): Promise<boolean>
  readDirectory(path: string, maxBytes: number): Promise<AdapterFiles>
  writeDirectory(path: string, files: AdapterBytes): Promise<void>
  openHubCache(repository: string, cacheDir?: string): HubCache
  /** What the environment says about the hub, as huggingface_hub reads it: `HF_ENDPOINT` and `HF_HUB_OFFLINE`. */
  hubEnvironment(): { readonly endpoint?: string; readonly offline: boolean }
  /** An absolute path, from one that may begin with `~` and from a `file:` URL. */
  resolvePath(path: string | URL): string
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
  resolvePath: (path) =>
    typeof path === 'string' ? resolve(path.replace(/^~(?=$|[/\\])/, homedir())) : fileURLToPath(path),
}

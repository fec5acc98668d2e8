/** What differs between Node and the browser: whether there are files. */
import type { AdapterBytes } from '../files/adapter-bytes.js'
import type { AdapterFiles } from '../files/adapter-files.js'
import type { HubCache } from '../files/sources/hub.js'

export interface Platform {
  /** Undefined in browsers. */
  readonly fileSystem: FileSystem | undefined
}

export interface FileSystem {
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

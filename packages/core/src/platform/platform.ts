/** The difference between Node and browsers: a file system. */
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
  /** Reads the settings of huggingface_hub in the environment: `HF_ENDPOINT` and `HF_HUB_OFFLINE`. */
  hubEnvironment(): { readonly endpoint?: string; readonly offline: boolean }
  /**
   * Returns the absolute path of a path, which may begin with `~`, or of a `file:` URL.
   *
   * @param option name of the argument in errors
   * @throws {FourierFTError} `INVALID_OPTION` if the argument is neither
   */
  resolvePath(path: string | URL, option: string): string
}

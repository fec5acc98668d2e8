/** Browsers have no file system. */
import type { Platform } from './platform.js'

export const platform: Platform = { fileSystem: undefined }

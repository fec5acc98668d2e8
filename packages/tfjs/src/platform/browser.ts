/** Browsers: there is no native kernel. */
import type { Platform } from './platform.js'

export const platform: Platform = { openNativeKernel: () => undefined }

/** The platform in Node. */
import { readFile } from 'node:fs/promises'
import type { Platform } from './platform.js'

export const platform: Platform = {
  readFile: async (url) => new Uint8Array(await readFile(url)),
}

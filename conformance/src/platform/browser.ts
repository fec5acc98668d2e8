/** Browsers have no files. */
import type { Platform } from './platform.js'

export const platform: Platform = {
  async readFile(url) {
    throw new Error(`${url}: a browser reads vectors by http or https`)
  },
}

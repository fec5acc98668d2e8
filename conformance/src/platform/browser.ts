/** The platform in browsers, which have no files. */
import type { Platform } from './platform.js'

export const platform: Platform = {
  async readFile(url) {
    throw new Error(`${url}: browsers read vectors only by http or https`)
  },
}

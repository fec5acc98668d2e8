/** `#node-files` where there is no file system: nothing. */
import type { NodeFiles } from './node-files.js'

export const nodeFiles: NodeFiles | undefined = undefined

/** `isFolder`: whether a path leads to a folder, also through symbolic links. */
import { stat } from 'node:fs/promises'

export function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  )
}

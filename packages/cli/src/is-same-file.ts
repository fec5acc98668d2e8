/** Compares paths. */
import { realpath } from 'node:fs/promises'

/** Returns whether both paths lead to the same existing file or directory, also through links. */
export async function isSameFile(a: string, b: string): Promise<boolean> {
  const [first, second] = await Promise.all([a, b].map((path) => realpath(path).catch(() => undefined)))
  return first !== undefined && first === second
}

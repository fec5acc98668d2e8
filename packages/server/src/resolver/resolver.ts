/** `Resolver`: finds the adapter of a name. The cache of adapters asks it at each request, and reads an adapter again if its version has changed. */
import type { Adapter } from '@fourierft/core'

/** An adapter that exists, before its files are read. */
export interface FoundAdapter {
  /** Changes whenever the files change. */
  readonly version: string
  /**
   * Reads the files, both from one version.
   *
   * @throws {ServerError} `invalid_adapter` if the files change while they are read
   * @throws {FourierFTError} for files that are not an adapter
   */
  read(signal: AbortSignal): Promise<Adapter>
}

/** A name that requests can use. */
export interface ListedName {
  readonly name: string
  /** Time of the newest file, in milliseconds since 1970. */
  readonly modified: number
}

export interface Resolver {
  /**
   * Finds an adapter. Called at each request, so it has to be fast.
   *
   * @param name of letters, digits, `.`, `_` and `-`, with at most one `/`, which is never a path
   * @returns undefined if no adapter has the name
   */
  find(name: string, signal: AbortSignal): Promise<FoundAdapter | undefined>
  /** Lists the names that exist. Absent if they cannot be listed. */
  list?(): Promise<readonly ListedName[]>
}

/** Asks several resolvers, in order. */
export function resolverOf(resolvers: readonly Resolver[]): Resolver {
  return {
    async find(name, signal) {
      for (const resolver of resolvers) {
        const found = await resolver.find(name, signal)
        if (found) return found
      }
      return undefined
    },
    async list() {
      const lists = await Promise.all(resolvers.map((resolver) => resolver.list?.() ?? []))
      const names = new Map<string, ListedName>()
      for (const listed of lists.flat()) if (!names.has(listed.name)) names.set(listed.name, listed)
      return [...names.values()]
    },
  }
}

/** `functionResolver`: adapters from a function of the user's, for example from a database. */
import { createHash } from 'node:crypto'
import { Adapter, type AdapterSource, type LoadAdapterOptions, loadAdapter } from '@fourierft/core'
import type { FoundAdapter, Resolver } from './resolver.js'

/** Returns the adapter of a name, or its files; undefined if no adapter has the name. It is called at each request. */
export type FindAdapter = (
  name: string,
  signal: AbortSignal,
) => Promise<AdapterSource | Adapter | undefined> | AdapterSource | Adapter | undefined

/** How the sources that the function returns are loaded. */
export type FunctionOptions = Omit<LoadAdapterOptions, 'signal' | 'shapes'>

/**
 * Finds adapters with a function. The version is the content of bytes in memory, the text of a path or URL, and otherwise the object itself. So an adapter
 * at a path or URL is read again only if the function returns another one; a folder whose files change needs `folderResolver`.
 */
export function functionResolver(findAdapter: FindAdapter, options: FunctionOptions = {}): Resolver {
  const { onWarning = () => {} } = options
  const versions = new WeakMap<object, string>()
  let objects = 0
  /** Returns the version of an object that is not known by its content. */
  const versionOf = (object: object): string => {
    const version = versions.get(object) ?? `object ${++objects}`
    versions.set(object, version)
    return version
  }
  return {
    async find(name, signal): Promise<FoundAdapter | undefined> {
      signal.throwIfAborted()
      const source = await findAdapter(name, signal)
      if (source === undefined) return undefined
      if (Adapter.isInstance(source)) return { version: versionOf(source), read: async () => source }
      return {
        version: contentOf(source) ?? versionOf(source as object),
        read: (signal) => loadAdapter(source, { ...options, onWarning, signal }),
      }
    },
  }
}

function contentOf(source: AdapterSource): string | undefined {
  if (typeof source === 'string') return source
  if (source instanceof URL) return source.href
  if (!('config' in source && 'model' in source)) return undefined
  return createHash('sha256').update(source.config).update('\0').update(source.model).digest('hex')
}

/**
 * The backends that the command line can put through the suite. Only core's is always there; a runtime is the user's own copy, found
 * when it is asked for.
 */
import { type Backend, coreBackend } from '@fourierft/core'

/** Opens a backend. Rejects with `ERR_MODULE_NOT_FOUND` where one of its packages is not installed. */
type Open = () => Promise<Backend>

const BACKENDS = {
  core: async () => coreBackend(),
} as const satisfies Record<string, Open>

export type BackendName = keyof typeof BACKENDS

export const backendNames = Object.keys(BACKENDS) as readonly BackendName[]

export function isBackendName(name: string): name is BackendName {
  return Object.hasOwn(BACKENDS, name)
}

/** @returns the backend, or in `reason` why it cannot run here */
export async function openBackend(name: BackendName): Promise<Backend | { readonly reason: string }> {
  try {
    return await BACKENDS[name]()
  } catch (error) {
    const [, missing] =
      /Cannot find (?:package|module) '([^']+)'/.exec(error instanceof Error ? error.message : '') ?? []
    if (missing === undefined) throw error
    return { reason: `${missing} is not installed` }
  }
}

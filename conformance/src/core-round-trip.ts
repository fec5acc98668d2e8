/** The files of an adapter through `core` alone. */
import { type AdapterBytes, loadAdapter } from '@fourierft/core'

/** Reads and writes anew: the writer's bytes, not the copy that an adapter keeps of what it was read from. */
export async function readAgain(files: AdapterBytes): Promise<AdapterBytes> {
  const adapter = await loadAdapter(files)
  const dtypes = new Set(Array.from(adapter.modules.values(), ({ dtype }) => dtype))
  const [dtype] = dtypes
  return dtype !== undefined && dtypes.size === 1 ? adapter.toBytes({ dtype }) : adapter.toBytes()
}

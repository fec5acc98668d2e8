/** A round trip of an adapter's files through `core` alone. */
import { type AdapterBytes, loadAdapter } from '@fourierft/core'

/** Reads the files and writes them anew. Without a dtype the writer would return the bytes that the adapter was read from. */
export async function readAgain(files: AdapterBytes): Promise<AdapterBytes> {
  const adapter = await loadAdapter(files)
  const dtypes = new Set(Array.from(adapter.modules.values(), ({ dtype }) => dtype))
  const [dtype] = dtypes
  return dtype !== undefined && dtypes.size === 1 ? adapter.toBytes({ dtype }) : adapter.toBytes()
}

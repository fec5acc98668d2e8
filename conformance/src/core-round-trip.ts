/** A round trip of an adapter's files through `core`. */
import { type AdapterBytes, loadAdapter } from '@fourierft/core'

/** Reads the files and writes them again. Passes a dtype because `toBytes()` would otherwise return the bytes that it read. */
export async function readAgain(files: AdapterBytes): Promise<AdapterBytes> {
  const adapter = await loadAdapter(files)
  const dtypes = new Set(Array.from(adapter.modules.values(), ({ dtype }) => dtype))
  const [dtype] = dtypes
  return dtype !== undefined && dtypes.size === 1 ? adapter.toBytes({ dtype }) : adapter.toBytes()
}

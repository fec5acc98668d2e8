/** The shared libraries that this process has loaded. */
import { readFileSync } from 'node:fs'

/** Returns their paths, from Node's diagnostic report or from Linux's `/proc`; empty if neither is available. */
export function loadedLibraries(): readonly string[] {
  const libraries = librariesOfReport()
  return libraries.length > 0 ? libraries : librariesOfMaps()
}

type Report = Partial<NonNullable<typeof process.report>> & { excludeNetwork?: boolean }

/** Reads Node's report. Returns an empty list in Bun and Deno: Bun's report lists no libraries, and Deno's needs a permission. */
function librariesOfReport(): readonly string[] {
  const report = process.report as Report | undefined
  if (typeof report?.getReport !== 'function') return []
  // Without this option the report resolves names of hosts, which can take seconds.
  const { excludeNetwork } = report
  report.excludeNetwork = true
  try {
    const { sharedObjects } = (report.getReport() ?? {}) as { readonly sharedObjects?: readonly string[] }
    return Array.isArray(sharedObjects) ? sharedObjects : []
  } catch {
    return []
  } finally {
    if (excludeNetwork !== undefined) report.excludeNetwork = excludeNetwork
  }
}

function librariesOfMaps(): readonly string[] {
  let maps: string
  try {
    maps = readFileSync('/proc/self/maps', 'utf8')
  } catch {
    return []
  }
  // `address permissions offset device inode path`
  return [...new Set(Array.from(maps.matchAll(/^(?:\S+ +){5}(\/.*)$/gm), ([, path]) => path))]
}

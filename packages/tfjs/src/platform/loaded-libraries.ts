/** The shared libraries that this process has loaded. Bun and Deno lack Node's diagnostic report, or its list of libraries. */
import { readFileSync } from 'node:fs'

/** Their paths, from Node's report or from Linux's `/proc`; empty if neither is available. */
export function loadedLibraries(): readonly string[] {
  return librariesOfReport() ?? librariesOfMaps()
}

type Report = Partial<NonNullable<typeof process.report>> & { excludeNetwork?: boolean }

function librariesOfReport(): readonly string[] | undefined {
  const report = process.report as Report | undefined
  if (typeof report?.getReport !== 'function') return undefined
  // Without this option the report resolves names of hosts, which can take seconds.
  const { excludeNetwork } = report
  report.excludeNetwork = true
  const { sharedObjects } = (report.getReport() ?? {}) as { readonly sharedObjects?: readonly string[] }
  if (excludeNetwork !== undefined) report.excludeNetwork = excludeNetwork
  return Array.isArray(sharedObjects) ? sharedObjects : undefined
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

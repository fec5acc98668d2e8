import { existsSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { loadedLibraries } from './loaded-libraries.js'

const { report: original } = process
afterEach(() => replaceReport(original))

/** Replaces `process.report`, as in runtimes that lack it or fill it differently. */
function replaceReport(report: unknown): void {
  Object.defineProperty(process, 'report', { value: report, configurable: true })
}

describe('loadedLibraries', () => {
  it('lists the libraries of the report, which does not resolve hosts', () => {
    const report = {
      excludeNetwork: false,
      getReport: () => ({ sharedObjects: [report.excludeNetwork ? '/lib/offline.so' : '/lib/online.so'] }),
    }
    replaceReport(report)
    expect(loadedLibraries()).toEqual(['/lib/offline.so'])
    expect(report.excludeNetwork).toBe(false)
  })

  it.each([
    ['no report', undefined],
    ['no getReport', {}],
    ['no libraries in the report', { getReport: () => ({}) }],
    ['an empty list in the report, as in Bun', { getReport: () => ({ sharedObjects: [] }) }],
    [
      'a report without permission, as in Deno',
      {
        getReport() {
          throw new Error('not capable')
        },
      },
    ],
    ['no object as the report', { getReport: () => undefined }],
  ])('reads /proc/self/maps with %s, and finds nothing without that file', (_, report) => {
    replaceReport(report)
    const libraries = loadedLibraries()
    if (existsSync('/proc/self/maps')) {
      expect(libraries).toContain(process.execPath)
      expect(new Set(libraries).size).toBe(libraries.length)
      for (const path of libraries) expect(path).toMatch(/^\/\S/)
    } else expect(libraries).toEqual([])
  })
})

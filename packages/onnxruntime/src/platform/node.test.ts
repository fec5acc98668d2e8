import { kernelProblem } from '@fourierft/native'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { platform } from './node.js'

const files = vi.hoisted(() => ({ isLinux: true }))

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>()
  const readFileSync = (path: string, ...options: [BufferEncoding]) => {
    if (path === '/proc/self/maps' && !files.isLinux) throw new Error('ENOENT')
    return fs.readFileSync(path, ...options)
  }
  return { ...fs, readFileSync }
})

const problem = kernelProblem()

describe.skipIf(problem !== undefined)(
  `the loaded ONNX Runtime${problem ? ` (skipped: ${problem})` : ''}`,
  () => {
    afterEach(() => {
      vi.restoreAllMocks()
      files.isLinux = true
    })

    /** Bun's list of libraries is empty; Deno has no list. */
    test.each([
      ['Bun', { sharedObjects: [] }],
      ['Deno', {}],
    ])('is found without a list of libraries in the report, as in %s', async (_, report) => {
      const ort = await platform.loadOrt()
      const getReport = vi.spyOn(process.report, 'getReport').mockReturnValue(report)
      for (const isLinux of [true, false]) {
        files.isLinux = isLinux
        expect(await platform.openNativeKernel()).toMatchObject({ version: ort.env.versions.node })
      }
      expect(getReport).toHaveBeenCalledTimes(2)
    })

    test('is not found if this process has not loaded it', async () => {
      vi.spyOn(process.report, 'getReport').mockReturnValue({ sharedObjects: ['/lib/libc.so.6'] } as object)
      await expect(platform.openNativeKernel()).rejects.toThrow('has not loaded')
    })
  },
)

/**
 * Measures the native kernel, PyTorch, PEFT and pocketfft in one Python process on one thread: compiles the kernel as a shared library, and runs
 * `python/native_comparison.py`.
 */
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { FourierFTError } from '@fourierft/core'
import type { RunLength } from './measure.js'

export async function benchmarkNative(runLength: RunLength): Promise<void> {
  const python = process.env.FOURIERFT_PYTHON ?? 'python3'
  if (spawnSync(python, ['-c', 'import peft, torch, numpy']).status !== 0) {
    console.log('\nnative: skipped: the benchmark needs a Python with PEFT; set FOURIERFT_PYTHON to its path')
    return
  }
  const library = compileKernel()
  console.log('\nnative')
  const script = fileURLToPath(new URL('../python/native_comparison.py', import.meta.url))
  const { status } = spawnSync(python, [script, library, ...(runLength === 'quick' ? ['--quick'] : [])], {
    stdio: 'inherit',
  })
  if (status !== 0) process.exitCode = 1
}

/**
 * Compiles the kernel as a shared library.
 *
 * @returns the path of the library
 * @throws {FourierFTError} `UNSUPPORTED` if it cannot be compiled here
 */
export function compileKernel(): string {
  const sources = dirname(createRequire(import.meta.url).resolve('@fourierft/native/package.json'))
  const build = join(sources, 'build', 'shared')
  for (const args of [
    ['-S', sources, '-B', build, '-DCMAKE_BUILD_TYPE=Release', '-DFOURIERFT_SHARED=ON'],
    ['--build', build, '--parallel', '2'],
  ]) {
    const { status, stderr, error } = spawnSync('cmake', args, { encoding: 'utf8' })
    if (status !== 0)
      throw new FourierFTError(
        'UNSUPPORTED',
        `the kernel was not compiled: ${error?.message ?? stderr.trim()}`,
      )
  }
  return join(build, process.platform === 'darwin' ? 'libfourierft.dylib' : 'libfourierft.so')
}

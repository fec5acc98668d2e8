/**
 * The C++ tests of the kernel, compiled with AddressSanitizer and UndefinedBehaviorSanitizer and run once for each instruction set.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const build = `${root}/build/sanitized`
const hasCMake = spawnSync('cmake', ['--version']).status === 0
const reason = hasCMake ? '' : ' (skipped: CMake is not installed)'

function run(command: string, args: string[], environment: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, ...environment },
  })
  return { status, output: `${stdout}${stderr}` }
}

describe.skipIf(!hasCMake)(`the kernel in C++, under sanitizers${reason}`, () => {
  beforeAll(() => {
    const options = ['-DCMAKE_BUILD_TYPE=RelWithDebInfo', '-DFOURIERFT_SANITIZE=ON', '-DFOURIERFT_TESTS=ON']
    const configured = run('cmake', ['-S', root, '-B', build, ...options])
    if (configured.status !== 0) throw new Error(configured.output)
    const built = run('cmake', ['--build', build, '--parallel', '2'])
    if (built.status !== 0) throw new Error(built.output)
  }, 300_000)

  // `avx512` and `avx2` fall back to what the processor has; the program then says so and leaves with 77.
  test.each(['generic', 'avx2', 'avx512'])('%s', (instructions) => {
    const { status, output } = run(`${build}/fourierft-test`, [], { FOURIERFT_INSTRUCTIONS: instructions })
    if (status === 77) {
      expect(output).toMatch(/skipped: this processor has no/)
      return
    }
    expect(output).toMatch(/checks, 0 failed/)
    expect(status).toBe(0)
  })
})

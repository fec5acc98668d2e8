/**
 * All C++ compiled with AddressSanitizer and UndefinedBehaviorSanitizer: the tests of the kernel, run once for each instruction set, and the
 * addon with the CUDA kernels' source, in Node, as operators of ONNX Runtime.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { include_dir as headers } from 'node-api-headers'
import { beforeAll, describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const build = `${root}/build/sanitized`
const hasCMake = spawnSync('cmake', ['--version']).status === 0
const onLinux = process.platform === 'linux'
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
    const options = [
      '-DCMAKE_BUILD_TYPE=RelWithDebInfo',
      '-DFOURIERFT_SANITIZE=ON',
      '-DFOURIERFT_TESTS=ON',
      `-DFOURIERFT_CUDA_HOST=${onLinux ? 'ON' : 'OFF'}`,
      `-DNODE_API_INCLUDE=${headers}`,
    ]
    const configured = run('cmake', ['-S', root, '-B', build, ...options])
    if (configured.status !== 0) throw new Error(configured.output)
    const built = run('cmake', ['--build', build, '--parallel', '2'])
    if (built.status !== 0) throw new Error(built.output)
  }, 600_000)

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

  // Node itself is not compiled with them, so their library goes before it; what Node leaves behind at its end is no leak of ours.
  test.skipIf(!onLinux)(
    `the addon in Node${onLinux ? '' : ' (skipped: not on Linux)'}`,
    () => {
      const folder = mkdtempSync(join(tmpdir(), 'fourierft-sanitized-'))
      try {
        for (const part of ['package.json', 'dist'])
          cpSync(join(root, part), join(folder, part), { recursive: true })
        for (const file of ['fourierft.node', 'libfourierft-cuda-host.so'])
          cpSync(join(build, file), join(folder, 'build', file))
        const runtime = createRequire(import.meta.url).resolve('onnxruntime-node')
        const program = `
        import { createRequire } from 'node:module'
        import { kernelProblem, openOnnxRuntime } from '${pathToFileURL(join(folder, 'dist/index.js'))}'
        createRequire(import.meta.url)('${runtime}')
        if (kernelProblem()) throw new Error(kernelProblem())
        const library = process.report.getReport().sharedObjects.find((path) => /libonnxruntime\\.so/.test(path))
        const runtime = openOnnxRuntime(library)
        const wave = (count) => Float32Array.from({ length: count }, (_, i) => Math.sin(i))
        const number = (type, dims, data) => ({ type, dims, data })
        const results = {}
        for (const device of ['cpu', 'cuda-host'])
          for (const name of ['float32', 'bfloat16']) {
            const model = '${join(root, 'test/__fixtures__')}/layer-' + name + '.onnx'
            const session = await runtime.createSession(model, { executionProviders: [device] })
            const inputs = {
              x: number('float32', [2, 3, 20], wave(120)),
              g: number('float32', [2, 3, 24], wave(144)),
              c: number('float32', [2, 30], wave(60)),
              rows: number('int64', [2], BigInt64Array.of(1n, -1n)),
            }
            const runs = Array.from({ length: 4 }, () => session.run(inputs, ['y', 'grad_c', 'grad_x']))
            const [first] = await Promise.all(runs)
            await session.run({ ...inputs, rows: number('int64', [1], BigInt64Array.of(7n)) }, ['y']).catch(() => {})
            session.release()
            results[device + ' ' + name] = Object.values(first).map(({ data }) => Math.hypot(...data))
          }
        console.log(JSON.stringify(results))`
        const asan = run('gcc', ['-print-file-name=libasan.so']).output.trim()
        const { status, output } = run(process.execPath, ['--input-type=module', '-e', program], {
          LD_PRELOAD: asan,
          ASAN_OPTIONS: 'detect_leaks=0',
        })
        expect(output).not.toMatch(/Sanitizer|runtime error/)
        expect(status, output).toBe(0)
        const results = JSON.parse(output.slice(0, output.indexOf('\n')))
        // The kernels agree to conformance's 1e-5, or to a rounding of bfloat16 of each number.
        for (const name of ['float32', 'bfloat16'])
          for (const [i, norm] of results[`cpu ${name}`].entries())
            expect(Math.abs(results[`cuda-host ${name}`][i] / norm - 1)).toBeLessThan(
              name === 'float32' ? 1e-5 : 2 ** -8,
            )
      } finally {
        rmSync(folder, { recursive: true })
      }
    },
    120_000,
  )
})

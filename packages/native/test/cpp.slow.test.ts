/**
 * Runs all C++ code with AddressSanitizer and UndefinedBehaviorSanitizer: the tests of the kernel for each instruction set, and, in Node, the addon
 * with the CUDA kernels for the CPU: as operators of ONNX Runtime, in workers that are terminated, and on arrays that are transferred.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { include_dir as headers } from 'node-api-headers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Compilers and emulators take long on a busy machine, so no hook or test here has a time limit. */
const NO_LIMIT = 0

/** Nothing is left of any environment. */
const NOTHING = { plans: 0, sessions: 0, deviceValues: 0, jobs: 0 }

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
  }, NO_LIMIT)

  // The program exits with 77 if the processor does not have the instructions.
  test.each(['generic', 'avx2', 'avx512'])('%s', (instructions) => {
    const { status, output } = run(`${build}/fourierft-test`, [], { FOURIERFT_INSTRUCTIONS: instructions })
    if (status === 77) {
      expect(output).toMatch(/skipped: this processor has no/)
      return
    }
    expect(output).toMatch(/checks, 0 failed/)
    expect(status).toBe(0)
  })

  describe.skipIf(!onLinux)(`the addon in Node${onLinux ? '' : ' (skipped: not on Linux)'}`, () => {
    const folder = mkdtempSync(join(tmpdir(), 'fourierft-sanitized-'))
    const entry = pathToFileURL(join(folder, 'dist/index.js'))
    const model = (type: string) => join(root, 'test/__fixtures__', `layer-${type}.onnx`)
    const runtime = createRequire(import.meta.url).resolve('onnxruntime-node')

    beforeAll(() => {
      for (const part of ['package.json', 'dist'])
        cpSync(join(root, part), join(folder, part), { recursive: true })
      for (const file of ['fourierft.node', 'libfourierft-cuda-host.so'])
        cpSync(join(build, file), join(folder, 'build', file))
    })

    afterAll(() => rmSync(folder, { recursive: true }))

    // Node itself is not compiled with sanitizers, so their library is loaded before it. Memory that Node does not free at its end is not a leak
    // of the addon.
    function node(...args: string[]): string {
      const asan = run('gcc', ['-print-file-name=libasan.so']).output.trim()
      const { status, output } = run(process.execPath, args, {
        LD_PRELOAD: asan,
        ASAN_OPTIONS: 'detect_leaks=0',
      })
      expect(output).not.toMatch(/Sanitizer|runtime error/)
      expect(status, output).toBe(0)
      return output
    }

    test(
      'computes the operators in ONNX Runtime',
      () => {
        const program = `
        import { createRequire } from 'node:module'
        import { kernelProblem, openOnnxRuntime } from '${entry}'
        createRequire(import.meta.url)('${runtime}')
        if (kernelProblem()) throw new Error(kernelProblem())
        const library = process.report.getReport().sharedObjects.find((path) => /libonnxruntime\\.so/.test(path))
        const runtime = openOnnxRuntime(library)
        const wave = (count) => Float32Array.from({ length: count }, (_, i) => Math.sin(i))
        const number = (type, dims, data) => ({ type, dims, data })
        // Values outlive their session, are inputs of another run, and are released while they are read.
        async function keepOnDevice(session, inputs, expected) {
          const onDevice = ['y', 'grad_x']
          const { y, grad_x } = await session.run(inputs, onDevice, { onDevice })
          const again = session.run({ ...inputs, x: grad_x }, ['y', 'grad_x'], { onDevice: ['y'] })
          session.release()
          const data = y.read()
          y.release()
          if ((await data).join() !== expected.y.data.join()) throw new Error('other numbers on the device')
          grad_x.release()
          const last = await again
          await last.y.read()
        }
        const results = {}
        for (const device of ['cpu', 'cuda-host'])
          for (const name of ['float32', 'bfloat16']) {
            const model = '${model('{name}')}'.replace('{name}', name)
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
            if (device !== 'cpu') await keepOnDevice(session, inputs, first)
            session.release()
            results[device + ' ' + name] = Object.values(first).map(({ data }) => Math.hypot(...data))
          }
        console.log(JSON.stringify(results))`
        const output = node('--input-type=module', '-e', program)
        const results = JSON.parse(output.slice(0, output.indexOf('\n')))
        // The kernels agree within conformance's 1e-5, or within one rounding of bfloat16.
        for (const name of ['float32', 'bfloat16'])
          for (const [i, norm] of results[`cpu ${name}`].entries())
            expect(Math.abs(results[`cuda-host ${name}`][i] / norm - 1)).toBeLessThan(
              name === 'float32' ? 1e-5 : 2 ** -8,
            )
      },
      NO_LIMIT,
    )

    test.each([
      ['kernel', 15],
      ['create', 3],
      ['run', 8],
      ['device', 6],
    ])(
      'survives workers that are terminated: %s',
      (task, rounds) => {
        const library = join(dirname(runtime), '..', 'bin/napi-v6/linux', process.arch, 'libonnxruntime.so.1')
        const program = join(root, 'test/programs/ended-workers.js')
        const output = node(program, folder, library, model('float32'), task, 'terminate', String(rounds))
        expect(output).toBe(`${JSON.stringify({ rounds, live: NOTHING })}\n`)
      },
      NO_LIMIT,
    )

    // If a call used the array's memory itself, it would access it after it was freed.
    test(
      'survives arrays that are transferred or shortened',
      () => {
        const program = `
      import { createRequire } from 'node:module'
      import { kernel, openOnnxRuntime } from '${entry}'
      createRequire(import.meta.url)('${runtime}')
      const library = process.report.getReport().sharedObjects.find((path) => /libonnxruntime\\.so/.test(path))
      const [d, n, tokens] = [256, 64, 2000]
      const entries = { n, rows: Uint32Array.from({ length: n }, (_, l) => l), columns: new Uint32Array(n) }
      const layer = { shape: [d, d], entries, coefficients: new Float32Array(n).fill(1), scaling: 1 }
      const zeros = () => new Float32Array(tokens * d)
      const shrinking = () => new Float32Array(new ArrayBuffer(4 * tokens * d, { maxByteLength: 4 * tokens * d }))
      const transfer = ({ buffer }) => structuredClone(buffer, { transfer: [buffer] }) && gc()
      const shrink = ({ buffer }) => buffer.resize(0)
      const counts = { resolved: 0, lost: 0 }
      const count = (call) =>
        call.then(() => counts.resolved++, ({ code }) => (code === 'INVALID_STATE' ? counts.lost++ : counts.other++))
      const native = kernel()
      await native.addForward([layer], zeros(), zeros())
      for (const [make, take] of [[zeros, transfer], [shrinking, shrink]])
        for (let round = 0; round < 3; round++) {
          const rows = new Int32Array(tokens)
          const [x, y, x2, g, gradX] = [make(), make(), make(), make(), make()]
          const gradients = { coefficients: [new Float32Array(n)], x: gradX }
          const calls = [native.addForward([layer], x, y, { rows }), native.addBackward([layer], x2, g, gradients)].map(count)
          for (const array of [x, y, x2, g, gradX]) take(array)
          transfer(rows)
          await Promise.all(calls)
          const only = make()
          const call = count(native.addForward([layer], only, zeros()))
          take(only)
          await call
        }
      const session = await openOnnxRuntime(library).createSession('${model('float32')}')
      const tensor = (type, dims, data) => ({ type, dims, data })
      for (let round = 0; round < 3; round++) {
        const inputs = {
          x: tensor('float32', [1, 900, 20], new Float32Array(18000)),
          g: tensor('float32', [1, 900, 24], new Float32Array(21600)),
          c: tensor('float32', [2, 30], new Float32Array(60)),
          rows: tensor('int64', [900], new BigInt64Array(900)),
        }
        const call = count(session.run(inputs, ['y', 'grad_c', 'grad_x']))
        for (const { data } of Object.values(inputs)) transfer(data)
        await call
      }
      console.log(JSON.stringify(counts))`
        const output = node('--expose-gc', '--input-type=module', '-e', program)
        expect(JSON.parse(output)).toEqual({ resolved: 9, lost: 12 })
      },
      NO_LIMIT,
    )
  })
})

/**
 * The CUDA kernels: on the CPU through host-shim/, under sanitizers; compiled by nvcc for the documented architectures, with limits on
 * registers; and on a device if there is one.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import { loadAddon, promiseOf } from '../js/addon.js'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Compilers and emulators take long on a busy machine, so no hook or test here has a time limit. */
const NO_LIMIT = 0

const build = `${root}/build/cuda`
const configure = ['-S', root, '-B', build, '-DFOURIERFT_CUDA_TESTS=ON', '-DCMAKE_CUDA_FLAGS=-Xptxas -v']
const hasCMake = spawnSync('cmake', ['--version']).status === 0
const hasNvcc = spawnSync('nvcc', ['--version']).status === 0
const withoutCMake = hasCMake ? '' : ' (skipped: CMake is not installed)'
const withoutNvcc = hasNvcc ? '' : ' (skipped: nvcc is not installed)'

const ARCHITECTURES = [75, 80, 90, 100]
/**
 * The kernels, by the end of their mangled names, and the most registers of a thread. A multiprocessor has 65536: enough for two blocks of 512 threads of
 * the token kernels, and for four or three blocks of 128 threads of the tile kernels, with one or two tokens.
 */
const KERNELS: Readonly<Record<string, number>> = {
  forward_kernelILi1ELb0E: 64,
  backward_kernelILi1ELb0E: 64,
  forward_kernelILi1ELb1E: 128,
  backward_kernelILi1ELb1E: 128,
  forward_kernelILi2ELb1E: 168,
  backward_kernelILi2ELb1E: 168,
  reduce_kernel: 64,
}

function run(command: string, args: string[]) {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  return { status, output: `${stdout}${stderr}` }
}

function succeed(command: string, args: string[]): string {
  const { status, output } = run(command, args)
  if (status !== 0) throw new Error(output)
  return output
}

function openLibrary(path: string): Promise<number> {
  const loaded = loadAddon()
  if ('problem' in loaded) throw new Error(loaded.problem)
  return promiseOf<number>((done) => loaded.addon.openCudaLibrary(path, done))
}

const device = run('nvidia-smi', ['-L']).output.includes('GPU 0')

/** What the compilers print. */
let buildOutput = ''

beforeAll(() => {
  if (!hasCMake) return
  succeed('cmake', [...configure, `-DFOURIERFT_CUDA=${hasNvcc ? 'ON' : 'OFF'}`])
  // An object file that is up to date would not be compiled again, and nvcc would print nothing.
  rmSync(`${build}/CMakeFiles/fourierft-cuda.dir/cuda/fourierft-cuda.cu.o`, { force: true })
  buildOutput = succeed('cmake', ['--build', build, '--parallel', '2'])
}, NO_LIMIT)

describe.skipIf(!hasCMake)(`the CUDA kernels${withoutCMake}`, () => {
  test('pass their tests on the CPU, with barriers, under sanitizers', () => {
    const { status, output } = run(`${build}/fourierft-cuda-shim-test`, [])
    expect(output).toMatch(/[1-9]\d{3} checks, 0 failed/)
    expect(status).toBe(0)
  })

  const name = device ? 'pass their tests on the device' : 'report that there is no CUDA device'
  test.skipIf(!hasNvcc)(`${name}${withoutNvcc}`, () => {
    const { status, output } = run(`${build}/fourierft-cuda-test`, [])
    if (device) expect(output).toMatch(/[1-9]\d{2,} checks, 0 failed/)
    else expect(output).toBe('skipped: no CUDA device\n')
    expect(status).toBe(device ? 0 : 77)
  })
})

interface Usage {
  kernel: string
  architecture: number
  registers: number
  stack: number
  spills: number
  shared: number
}

/** Reads the numbers that `ptxas -v` prints for each kernel. */
function usages(report: string): Usage[] {
  const found: Usage[] = []
  for (const part of report.split('Compiling entry function').slice(1)) {
    const numbers = (pattern: RegExp) => pattern.exec(part)?.slice(1).map(Number) ?? [Number.NaN]
    const [stack = Number.NaN, stores = Number.NaN, loads = Number.NaN] = numbers(
      /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/,
    )
    const [registers = Number.NaN] = numbers(/Used (\d+) registers/)
    const [architecture = Number.NaN] = numbers(/for 'sm_(\d+)'/)
    const kernel = Object.keys(KERNELS).find((name) => part.includes(name)) ?? part
    const shared = /(\d+) bytes smem/.exec(part)?.[1] ?? '0'
    found.push({
      kernel,
      architecture,
      registers,
      stack,
      spills: stores + loads,
      shared: Number(shared),
    })
  }
  return found
}

describe.skipIf(!hasNvcc)(`the CUDA kernels compiled by nvcc${withoutNvcc}`, () => {
  test(
    `have the registers they need and spill none on sm_${ARCHITECTURES.join(', sm_')}`,
    () => {
      const found = usages(buildOutput)

      console.log(found.map((usage) => JSON.stringify(usage)).join('\n'))
      const named = found.map(({ kernel, architecture }) => `${kernel} ${architecture}`).sort()
      const kernels = Object.keys(KERNELS)
      expect(named).toEqual(kernels.flatMap((kernel) => ARCHITECTURES.map((sm) => `${kernel} ${sm}`)).sort())
      for (const usage of found) {
        expect(usage, `${usage.kernel} sm_${usage.architecture}`).toMatchObject({
          stack: 0,
          spills: 0,
          shared: 0, // all of it is requested at launch
        })
        const isLarger = usage.kernel === 'backward_kernelILi2ELb1E' && usage.architecture === 100
        expect(usage.registers, `${usage.kernel} sm_${usage.architecture}`).toBeLessThanOrEqual(
          isLarger ? 255 : (KERNELS[usage.kernel] as number),
        )
      }

      // Any process can load the library: it needs no CUDA library, and exports only the functions of the header.
      const library = `${build}/libfourierft-cuda.so`
      const needed = [...succeed('readelf', ['-d', library]).matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(
        ([, name]) => name,
      )
      expect(needed.filter((name) => !/^(lib(c|m|dl|rt|pthread)|ld-linux.*)\.so/.test(name ?? ''))).toEqual(
        [],
      )
      const functions = [...succeed('nm', ['-D', '--defined-only', library]).matchAll(/ T (\S+)/g)].map(
        ([, name]) => name as string,
      )
      const header = readFileSync(`${root}/cuda/fourierft-cuda.h`, 'utf8')
      const promised = [...header.matchAll(/^FOURIERFT_CUDA_API .*?(fourierft_cuda_\w+)\(/gm)].map(
        ([, name]) => name,
      )
      expect(functions.sort()).toEqual(promised.sort())
    },
    NO_LIMIT,
  )

  test(
    'the packed package builds the library and opens it',
    async () => {
      const folder = mkdtempSync(join(tmpdir(), 'fourierft-cuda-'))
      try {
        const [packed] = JSON.parse(succeed('npm', ['pack', root, '--json', '--pack-destination', folder]))
        succeed('tar', ['-xzf', join(folder, packed.filename), '-C', folder])
        const unpacked = join(folder, 'package')
        symlinkSync(join(root, 'node_modules'), join(unpacked, 'node_modules'))
        const environment = { ...process.env, CUDAARCHS: '90-real' }
        const program = join(unpacked, 'scripts/build.js')
        const built = spawnSync('node', [program, '--cuda'], { encoding: 'utf8', env: environment })
        expect(built.stderr).toBe('')
        const opened = openLibrary(join(unpacked, 'build/libfourierft-cuda.so'))
        if (device) expect(await opened).toBeGreaterThan(0)
        else await expect(opened).rejects.toMatchObject({ code: 'UNSUPPORTED', message: /^no CUDA device: / })
      } finally {
        rmSync(folder, { recursive: true })
      }
    },
    NO_LIMIT,
  )
})

test('rejects a missing library and a library of another project', async () => {
  const missing = join(root, 'no-such-library.so')
  await expect(openLibrary(missing)).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringContaining(missing),
  })
  const shared = (process.report.getReport() as unknown as { sharedObjects: string[] }).sharedObjects
  const other = shared.find((path) => /libm\.so/.test(path)) as string
  await expect(openLibrary(other)).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: `${other} is of another version of this package; build it again`,
    advice: 'build it again',
  })
})

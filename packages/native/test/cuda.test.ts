/**
 * The CUDA kernels: run by the host compiler through host-shim/, under sanitizers; compiled by nvcc for the architectures that are
 * promised, with bounds on what they take; and run by a device where there is one.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const build = `${root}/build/cuda`
const hasCMake = spawnSync('cmake', ['--version']).status === 0
const hasNvcc = spawnSync('nvcc', ['--version']).status === 0
const withoutCMake = hasCMake ? '' : ' (skipped: CMake is not installed)'
const withoutNvcc = hasNvcc ? '' : ' (skipped: nvcc is not installed)'

const ARCHITECTURES = [75, 80, 90, 100]
/** Of 65536 in a multiprocessor: two blocks of 512 threads fit, or 1024 threads in smaller ones, all that an sm_75 can hold. */
const MOST_REGISTERS = 64

function run(command: string, args: string[]) {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  return { status, output: `${stdout}${stderr}` }
}

function succeed(command: string, args: string[]): string {
  const { status, output } = run(command, args)
  if (status !== 0) throw new Error(output)
  return output
}

describe.skipIf(!hasCMake)(`the CUDA kernels${withoutCMake}`, () => {
  beforeAll(() => {
    const cuda = hasNvcc ? 'ON' : 'OFF'
    succeed('cmake', ['-S', root, '-B', build, '-DFOURIERFT_CUDA_TESTS=ON', `-DFOURIERFT_CUDA=${cuda}`])
    succeed('cmake', ['--build', build, '--parallel', '2'])
  }, 300_000)

  test('on the CPU, barriers and all, under sanitizers', () => {
    const { status, output } = run(`${build}/fourierft-cuda-shim-test`, [])
    expect(output).toMatch(/[1-9]\d{3} checks, 0 failed/)
    expect(status).toBe(0)
  })

  // No skip where there is no device: what the program does then is checked.
  const device = run('nvidia-smi', ['-L']).output.includes('GPU 0')
  const name = device
    ? 'on the device'
    : 'not on a device, as there is none: the program says "skipped: no CUDA device"'
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

/** What `ptxas -v` says of each kernel. */
function usages(report: string): Usage[] {
  const found: Usage[] = []
  for (const part of report.split('Compiling entry function').slice(1)) {
    const numbers = (pattern: RegExp) => pattern.exec(part)?.slice(1).map(Number) ?? [Number.NaN]
    const [stack = Number.NaN, stores = Number.NaN, loads = Number.NaN] = numbers(
      /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/,
    )
    const [registers = Number.NaN] = numbers(/Used (\d+) registers/)
    const [architecture = Number.NaN] = numbers(/for 'sm_(\d+)'/)
    const kernel = /(forward|backward|reduce)_kernel/.exec(part)?.[1] ?? part
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
  test(`for sm_${ARCHITECTURES.join(', sm_')}: no spills, at most ${MOST_REGISTERS} registers`, () => {
    mkdirSync(`${root}/build`, { recursive: true })
    const generate = ARCHITECTURES.flatMap((sm) => ['-gencode', `arch=compute_${sm},code=sm_${sm}`])
    const source = [`${root}/cuda/fourierft-cuda.cu`, '-I', `${root}/include`]
    const options = [
      '-std=c++17',
      '-O3',
      '-Xptxas',
      '-v',
      '--threads',
      '2',
      '-c',
      '-o',
      `${root}/build/ptxas.o`,
    ]
    const found = usages(succeed('nvcc', [...options, ...generate, ...source]))

    console.log(found.map((each) => JSON.stringify(each)).join('\n'))
    const named = found.map(({ kernel, architecture }) => `${kernel} ${architecture}`).sort()
    const kernels = ['forward', 'backward', 'reduce']
    expect(named).toEqual(kernels.flatMap((kernel) => ARCHITECTURES.map((sm) => `${kernel} ${sm}`)).sort())
    for (const usage of found) {
      expect(usage, `${usage.kernel} sm_${usage.architecture}`).toMatchObject({
        stack: 0,
        spills: 0,
        shared: 0, // all of it is asked for at launch
      })
      expect(usage.registers, `${usage.kernel} sm_${usage.architecture}`).toBeLessThanOrEqual(MOST_REGISTERS)
    }
  }, 120_000)
})

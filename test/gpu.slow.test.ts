/**
 * Tests the check of the CUDA kernels (scripts/gpu) on a machine without a GPU: the CPU runs the kernels, compared with PEFT; a library with a fault
 * fails; what is missing is named; the report is written from recorded numbers. Needs FOURIERFT_PYTHON, the path of a Python that has PEFT.
 */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const scripts = join(root, 'scripts/gpu')
const native = join(root, 'packages/native')
const recording = join(root, 'test/__fixtures__/gpu-report.json')
const folder = mkdtempSync(join(tmpdir(), 'fourierft-gpu-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Compilers and PEFT take long on a busy machine, so no hook or test here has a time limit. */
const NO_LIMIT = 0

const python = process.env.FOURIERFT_PYTHON
const withoutPython =
  python === undefined ? ' (skipped: FOURIERFT_PYTHON is not set to a Python with PEFT)' : ''
const hasNvcc = spawnSync('nvcc', ['--version']).status === 0
const withoutNvcc = hasNvcc ? '' : ' (skipped: nvcc is not installed)'
const hasGpu = spawnSync('nvidia-smi', ['-L'], { encoding: 'utf8' }).stdout?.includes('GPU 0') ?? false
const withGpu = hasGpu ? ' (skipped: this machine has a GPU)' : ''

/** The device of packages/native/cuda/roofline.js. */
const H200 = { architecture: '90', multiprocessors: 132, clock: 1.98e9 }

interface Step {
  readonly name: string
  status: string
  note: string
  readonly seconds: number
  fatal: boolean
}

interface Goal {
  readonly goal: string
  readonly status: string
  readonly cases: readonly {
    readonly case: string
    readonly value: number
    readonly met: boolean
    readonly few: boolean
  }[]
  readonly 'not measured': readonly string[]
}

/** The parts of report.json that the tests read or change. */
interface Report {
  host: boolean
  verdict: string
  failures: string[]
  steps: Step[]
  goals: Goal[]
  machine: { gpu: object | null }
  peft: { checks: number; failed: number; seed: number }
  times: Times
}

interface CaseTimes {
  readonly eager: { readonly median: number; readonly quartiles: number[]; samples: number }
}

interface Times {
  memory: string
  ceilings: Record<string, number>
  sizes: {
    d: number
    tokens: number
    mode: string
    times: Record<string, CaseTimes>
  }[]
}

function run(command: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', ...environment },
    maxBuffer: 2 ** 26,
  })
  if (error) throw error
  return { status, stdout, stderr }
}

function succeed(command: string, args: readonly string[]): string {
  const { status, stdout, stderr } = run(command, args)
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stdout}${stderr}`)
  return stdout
}

/** Runs the check. */
function check(args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
  return run('bash', [join(scripts, 'check.sh'), ...args], { PYTHON: python, ...environment })
}

/** Evaluates an expression of Python about a module of the check, with `input` as its standard input. */
function evaluate(module: string, expression: string, input: string) {
  const program = `import json, sys, ${module}; print(json.dumps(${expression}))`
  const { stdout, stderr } = spawnSync(python ?? 'python3', ['-c', program], {
    encoding: 'utf8',
    input,
    env: { ...process.env, PYTHONPATH: scripts, PYTHONDONTWRITEBYTECODE: '1' },
  })
  if (stdout === '') throw new Error(stderr)
  return JSON.parse(stdout)
}

function reportIn(out: string): Report {
  return JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'))
}

/** Returns a status of each step, by its name. */
function statuses({ steps }: Report): Record<string, string> {
  return Object.fromEntries(steps.map(({ name, status }) => [name, status]))
}

describe.skipIf(python === undefined)(`the check without a GPU${withoutPython}`, () => {
  const out = join(folder, 'out')
  let whole: ReturnType<typeof check>
  beforeAll(() => {
    whole = check([out, '--host'])
  }, NO_LIMIT)

  test('builds the kernels for the CPU, and finds every number right', () => {
    expect(whole.stderr).toBe('')
    const report = reportIn(out)
    expect(report.failures).toEqual([])
    expect(statuses(report)).toMatchObject({ 'C++': 'passed', PEFT: 'passed', times: 'passed' })
    expect(report.peft.checks).toBeGreaterThan(1000)
    expect(report.verdict).toBe('right')
    expect(whole.stdout).toMatch(/\nall numbers are right\n$/)
    expect(whole.status).toBe(0)
  })

  test('begins with what has to end: C++ and PEFT', () => {
    const names = whole.stdout.split('\n').map((line) => line.split(':')[0])
    expect(names.slice(2, 4).sort()).toEqual(['C++', 'PEFT'])
    expect(names[4]).toBe('sanitizers')
  })

  test('says that the CPU ran the kernels, and names what did not run', () => {
    expect(whole.stdout).toContain('the CPU ran the kernels: this says nothing about a GPU')
    const text = readFileSync(join(out, 'report.md'), 'utf8')
    expect(text).toContain('The CPU ran the kernels')
    expect(text).toContain('- sanitizers: missing, the CPU runs the kernels')
    expect(text).toContain('- counters: missing, the CPU runs the kernels')
    expect(text).toContain('- PEFT: a CUDA graph needs a GPU')
    for (const { status } of reportIn(out).goals) expect(status).toBe('not measured')
  })

  test('writes a few files of moderate size', () => {
    const files = readdirSync(out)
    expect(files).toContain('report.md')
    expect(files.length).toBeLessThanOrEqual(8)
    for (const file of files) {
      expect(file).toMatch(/^[\w.-]+$/)
      expect(statSync(join(out, file)).size).toBeLessThanOrEqual(2 ** 24)
    }
    if (process.env.FOURIERFT_RECORD) copyFileSync(join(out, 'report.json'), recording)
  })

  test.skipIf(hasGpu)(`exits with 2 and says that a GPU is missing${withGpu}`, () => {
    const { status, stderr } = check([join(folder, 'none')])
    expect(stderr).toMatch(/^missing: .*an NVIDIA GPU \(.*--host.*\).*\n$/)
    expect(status).toBe(2)
  })

  test('leaves no report of an earlier run if the build fails', () => {
    const old = join(folder, 'old')
    mkdirSync(old)
    for (const name of ['report.md', 'report.json', 'notes.md']) writeFileSync(join(old, name), '{}')
    const compiler = join(folder, 'no-compiler')
    writeFileSync(compiler, '#!/bin/sh\necho no compiler\nexit 1\n')
    chmodSync(compiler, 0o755)
    const { status, stdout } = check([old, '--host'], { CXX: compiler })
    expect(stdout).toContain('the build failed')
    expect(status).toBe(1)
    expect(readdirSync(old).sort()).toEqual(['build.log', 'notes.md'])
  })

  test('exits with 2 and names Python or its packages if they are missing', () => {
    const missing = check([join(folder, 'none'), '--host'], { PYTHON: join(folder, 'no-python') })
    expect(missing.stderr).toMatch(/^missing: Python \(.*PYTHON.*\)\n$/)
    expect(missing.status).toBe(2)

    const bare = join(folder, 'bare-python')
    writeFileSync(bare, `#!/bin/sh\nexec ${python} -I -S "$@"\n`)
    chmodSync(bare, 0o755)
    const withoutPackages = check([join(folder, 'none'), '--host'], { PYTHON: bare })
    expect(withoutPackages.stderr).toMatch(/^missing: .*package torch .*package peft .*\n$/)
    expect(withoutPackages.status).toBe(2)
  })

  test('exits with 2 and names a package of Python that does not load', () => {
    const broken = join(folder, 'broken')
    mkdirSync(join(broken, 'peft'), { recursive: true })
    writeFileSync(join(broken, 'peft/__init__.py'), 'raise ImportError("no name here\\nmore")\n')
    const { status, stderr } = check([join(folder, 'none'), '--host'], { PYTHONPATH: broken })
    expect(stderr).toBe("missing: Python's package peft, which does not load (ImportError: no name here)\n")
    expect(status).toBe(2)
  })

  test.each(
    [[], ['a', 'b'], ['a', '--fast'], ['a', '--seed', 'x'], ['a', '--seed', '9'.repeat(20)]].map((args) => [
      args.join(' '),
      args,
    ]),
  )('rejects the arguments %j', (_, args) => {
    const { status, stderr } = check(args as string[])
    expect(stderr).toMatch(/^usage: check.sh OUT/)
    expect(status).toBe(2)
  })
})

describe.skipIf(python === undefined)(`a library of the CPU${withoutPython}`, () => {
  const build = join(folder, 'build')
  const out = join(folder, 'faulty')
  beforeAll(() => {
    mkdirSync(out)
    const log = succeed('bash', [join(scripts, 'build.sh'), build, 'host'])
    writeFileSync(join(build, 'build.log'), log)
    const objects = readdirSync(build).filter((name) => /^(plan|branch|kernel-.*)\.o$/.test(name))
    succeed('g++', [
      ...['-std=c++17', '-O2', '-fPIC', '-shared', '-fvisibility=hidden', '-Wno-unknown-pragmas'],
      ...['host-shim', 'cuda', 'include'].map((name) => `-I${join(native, name)}`),
      ...['-o', join(build, 'libfaulty.so'), join(root, 'test/__fixtures__/faulty-cuda.cc')],
      ...objects.map((name) => join(build, name)),
    ])
    succeed(python as string, [join(scripts, 'machine.py'), join(build, 'machine.json'), '--host'])
  }, NO_LIMIT)

  test('has the calls that a profiler starts', () => {
    const args = [join(scripts, 'launch.py'), join(build, 'libfourierft-cuda.so')]
    expect(succeed(python as string, args)).toBe(
      'calls: token forward, tile forward, token backward, tile backward\n',
    )
  })

  test('passes the tests of the measurements', () => {
    const { status, stderr } = spawnSync(python as string, ['-m', 'unittest', 'test_measuring'], {
      cwd: scripts,
      encoding: 'utf8',
      env: {
        ...process.env,
        LIBRARY: join(build, 'libfourierft-cuda.so'),
        FAULTY: join(build, 'libfaulty.so'),
        PYTHONDONTWRITEBYTECODE: '1',
      },
    })
    expect(stderr).toMatch(/Ran \d\d? tests[\s\S]*\nOK\n$/)
    expect(status).toBe(0)
  })

  test('makes the check fail if the time is too short to compare its numbers', () => {
    const short = join(folder, 'short')
    mkdirSync(short)
    const { status, stdout } = run(python as string, [
      join(scripts, 'check.py'),
      ...['--build', build, '--machine', join(build, 'machine.json'), '--out', short],
      ...['--seconds', '0.3', '--host'],
    ])
    expect(statuses(reportIn(short))).toMatchObject({ 'C++': 'cut off', PEFT: 'cut off', times: 'cut off' })
    expect(readFileSync(join(short, 'report.md'), 'utf8')).toContain('**Not right: C++, PEFT.**')
    expect(stdout).toMatch(/\nNOT RIGHT: C\+\+, PEFT\n$/)
    expect(status).toBe(1)
  })

  test(
    'makes the check fail if it has a fault, and the report names the wrong numbers',
    () => {
      const { status, stdout } = run(python as string, [
        join(scripts, 'check.py'),
        ...['--build', build, '--machine', join(build, 'machine.json'), '--out', out],
        ...['--library', join(build, 'libfaulty.so'), '--quick', '--host'],
      ])
      const report = reportIn(out)
      // Only the result of forward is wrong, in float32 also for a whole layer.
      expect(report.failures).not.toEqual([])
      for (const line of report.failures) expect(line).toMatch(/^PEFT: .*(: y,|float32, \w+: error)/)
      expect(report.failures.join('\n')).toMatch(/97x101, T = 7, float32, tile_2: y, norm of the error/)
      expect(statuses(report)).toEqual({ 'C++': 'passed', PEFT: 'failed' })
      expect(readFileSync(join(out, 'report.md'), 'utf8')).toContain('**Not right: PEFT.**')
      expect(stdout).toMatch(/\nNOT RIGHT: PEFT\n$/)
      expect(status).toBe(1)
    },
    NO_LIMIT,
  )
})

describe('the counters', () => {
  test('are read from the layout of ncu: titles, units, and a line for each kernel', () => {
    const output = [
      '==PROF== Connected to process 1',
      '"ID","Kernel Name","gpu__time_duration.sum","launch__registers_per_thread"',
      '"","","us","register/thread"',
      '"0","void forward_kernel<(int)1, (bool)1>(Call)","1,234.5","96"',
    ].join('\n')
    expect(evaluate('counters', 'counters.parse(sys.stdin.read())', output)).toEqual([
      {
        call: '',
        name: 'void forward_kernel<1, 1>',
        metrics: {
          'gpu__time_duration.sum': [1234.5, 'us'],
          launch__registers_per_thread: [96, 'register/thread'],
        },
      },
    ])
    expect(evaluate('counters', 'counters.parse(sys.stdin.read())', '==ERROR== no permission')).toEqual([])
  })

  test('have the names of the calls that launched the kernels', () => {
    const kernels = [
      'void <unnamed>::forward_kernel<(int)1, (bool)0>(Call)',
      'void <unnamed>::forward_kernel<(int)2, (bool)1>(Call)',
      'void <unnamed>::backward_kernel<(int)1, (bool)0>(Call)',
      'reduce_kernel(Reduce)',
      'void <unnamed>::backward_kernel<(int)2, (bool)1>(Call)',
      'reduce_kernel(Reduce)',
    ]
    const named = (lines: readonly string[]) =>
      evaluate(
        'counters',
        '[[k["call"], k["name"]] for k in counters.parse(sys.stdin.read())]',
        [
          'calls: token forward, tile forward, token backward, tile backward',
          '"ID","Kernel Name"',
          '"",""',
          ...lines.map((name, i) => `"${i}","${name}"`),
        ].join('\n'),
      )
    expect(named(kernels)).toEqual([
      ['token forward', 'void <unnamed>::forward_kernel<1, 0>'],
      ['tile forward', 'void <unnamed>::forward_kernel<2, 1>'],
      ['token backward', 'void <unnamed>::backward_kernel<1, 0>'],
      ['token backward', 'reduce_kernel'],
      ['tile backward', 'void <unnamed>::backward_kernel<2, 1>'],
      ['tile backward', 'reduce_kernel'],
    ])
    // Kernels that ncu left out: no name is better than a wrong one.
    expect(named(kernels.slice(1)).map(([call]: string[]) => call)).toEqual(['', '', '', '', ''])
  })
})

describe.skipIf(!hasNvcc)(`the build for a GPU${withoutNvcc}`, () => {
  test(
    'needs only nvcc and its host compiler',
    () => {
      const build = join(folder, 'sm-90')
      succeed('bash', [join(scripts, 'build.sh'), build, '90'])
      expect(existsSync(join(build, 'libfourierft-cuda.so'))).toBe(true)
      const { status, stdout } = run(join(build, 'fourierft-cuda-test'), [])
      if (hasGpu) expect(stdout).toMatch(/ 0 failed\n$/)
      else expect(stdout).toBe('skipped: no CUDA device\n')
      expect(status).toBe(hasGpu ? 0 : 77)
    },
    NO_LIMIT,
  )
})

describe('the report of recorded numbers', () => {
  /** Writes the report with a change, by any Python. */
  function written(change: (report: Report) => void, args: readonly string[] = []): string {
    const report: Report = JSON.parse(readFileSync(recording, 'utf8'))
    change(report)
    const file = join(folder, 'changed.json')
    writeFileSync(file, JSON.stringify(report))
    return succeed(python ?? 'python3', [join(scripts, 'report.py'), file, ...args])
  }

  function step({ steps }: Report, name: string): Step {
    const found = steps.find((step) => step.name === name)
    if (found === undefined) throw new Error(`no step ${name}`)
    return found
  }

  test('says that all numbers are right', () => {
    const text = written(() => {})
    expect(text).toContain('\nAll numbers are right.\n')
    expect(text).not.toContain('## Wrong numbers')
    for (const title of ['Steps', 'What did not run', 'Goals', 'Ceilings', 'Correctness against PEFT'])
      expect(text).toContain(`\n## ${title}\n`)
    expect(written(() => {}, ['--table'])).toMatch(/\nall numbers are right\n$/)
  })

  test('names a wrong number and its step', () => {
    const change = (report: Report) => {
      report.verdict = 'wrong'
      report.failures = ['PEFT: 97x101, T = 7, bfloat16, token: y, norm of the error: error 2, limit 1']
      Object.assign(step(report, 'PEFT'), { status: 'failed', fatal: true })
    }
    expect(written(change)).toContain('**Not right: PEFT.**')
    expect(written(change)).toContain('## Wrong numbers\n\n- PEFT: 97x101, T = 7, bfloat16, token: y')
    expect(written(change, ['--table'])).toMatch(/\nNOT RIGHT: PEFT\n$/)
  })

  test('names programs that are missing, and what was cut off', () => {
    const text = written((report) => {
      report.host = false
      Object.assign(step(report, 'counters'), { status: 'missing', note: 'ncu is not installed' })
      Object.assign(step(report, 'sanitizers'), {
        status: 'missing',
        note: 'compute-sanitizer is not installed',
      })
      Object.assign(step(report, 'times'), { status: 'cut off', note: 'not measured: d = 8192, T = 4096' })
    })
    expect(text).toContain('- counters: missing, ncu is not installed\n')
    expect(text).toContain('- sanitizers: missing, compute-sanitizer is not installed\n')
    expect(text).toContain('- times: cut off, not measured: d = 8192, T = 4096\n')
    expect(text).toContain('\nAll numbers are right.\n')
    expect(text).not.toContain('The CPU ran the kernels')
  })

  const SIZES = [768, 1024, 4096, 8192].flatMap((d) => [1, 32, 512, 4096].map((tokens) => ({ d, tokens })))
  const CASES = SIZES.flatMap((size) =>
    ['forward', 'backward', 'training'].map((mode) => ({ ...size, mode })),
  )

  /** Times of a GPU with a copy bandwidth of 4 TB/s, in seconds. */
  function gpuTimes(medians: Record<string, number>, cases = CASES): Times {
    const times = Object.fromEntries(
      Object.entries(medians).map(([name, median]) => [
        `${name} bfloat16`,
        { eager: { median, quartiles: [median, median], samples: 11 } },
      ]),
    )
    return {
      memory: 'cuda',
      ceilings: { copy: 4e12, 'copied bytes': 2 ** 30, 'size of the products': 8192 },
      sizes: cases.map((of) => ({ ...of, times: structuredClone(times) })),
    }
  }

  const goalsOf = (times: Times): Goal[] =>
    evaluate('goals', 'goals.goals_of(json.load(sys.stdin))', JSON.stringify(times))

  // The floor is 3 · 512 · 4096 · 2 bytes / 4 TB/s = 3.15 µs.
  const one = [{ d: 4096, tokens: 512, mode: 'forward' }]
  const measured = { token: 9e-6, tile: 6e-6, frozen: 20e-6, LoRA: 28e-6, 'PEFT FourierFT': 600e-6 }

  test('computes the goals of both kernels from the times', () => {
    const found = goalsOf(gpuTimes(measured, one)).map(({ status, cases }) => [status, cases[0]?.value])
    const floor = (3 * 512 * 4096 * 2) / 4e12
    expect(found).toEqual([
      ['missed', 9e-6 / floor],
      ['missed', 9e-6 / (28e-6 - 20e-6)],
      ['partly measured', 600e-6 / (20e-6 + 9e-6)],
      ['partly measured', 6e-6 / floor],
      ['partly measured', 6e-6 / (28e-6 - 20e-6)],
      ['partly measured', 600e-6 / (20e-6 + 6e-6)],
    ])
  })

  test('has met a goal only if every size of it was measured', () => {
    const lora = (cases: typeof CASES) => goalsOf(gpuTimes(measured, cases))[4] as Goal
    expect(lora(CASES)).toMatchObject({ status: 'met', 'not measured': [] })
    expect(lora(CASES).cases).toHaveLength(24)
    const absent = CASES.filter(
      ({ d, tokens, mode }) => !(d === 8192 && tokens === 4096 && mode === 'training'),
    )
    expect(lora(absent)).toMatchObject({
      status: 'partly measured',
      'not measured': ['d = 8192, T = 4096, training'],
    })
  })

  test('compares times of graphs with times of graphs alone', () => {
    const times = gpuTimes({ ...measured, LoRA: 30e-6 }, one)
    const of = (name: string) => times.sizes[0]?.times[`${name} bfloat16`] as CaseTimes
    const median = (seconds: number) => ({ median: seconds, quartiles: [seconds, seconds], samples: 4 })
    Object.assign(of('token'), { graph: median(2e-6) })
    Object.assign(of('frozen'), { graph: median(10e-6) })
    const [floor, lora, peft] = goalsOf(times)
    expect(floor?.cases[0]).toMatchObject({
      value: 2e-6 / ((3 * 512 * 4096 * 2) / 4e12),
      few: true,
      variant: 'graph',
    })
    // LoRA has no graph.
    expect(lora?.cases[0]).toMatchObject({
      value: 9e-6 / (30e-6 - 20e-6),
      few: false,
      variant: 'eager',
    })
    expect(peft?.cases[0]?.value).toBe(600e-6 / (10e-6 + 2e-6))
    expect(peft?.goal).toContain('PEFT FourierFT, called from Python')
  })

  test('has no goal from times of the CPU, or without times', () => {
    for (const times of [{ ...gpuTimes(measured), memory: 'cpu' }, gpuTimes({ token: 1e-6 })]) {
      const statuses = goalsOf(times).map(({ status }) => status)
      expect(statuses.filter((status) => status !== 'not measured')).toEqual(
        times.memory === 'cpu' ? [] : ['met'],
      )
    }
  })

  test('shows a goal that was missed with its number, and what was not measured', () => {
    const text = written((report) => {
      report.goals = goalsOf(gpuTimes(measured, one))
    })
    expect(text).toContain(
      '**missed** | 1 of 1 missed. d = 4096, T = 512, forward, from Python: 2.86. Not measured: d = 768,',
    )
    expect(text).toContain(
      '| partly measured | d = 4096, T = 512, forward, from Python: 1.91. Not measured: d = 768, T = 512, forward',
    )
  })

  test('shows the bounds of the multiprocessors beside the floor', () => {
    const text = written((report) => {
      report.machine.gpu = { ...H200, name: 'H200', memory: 2 ** 37, l2: 2 ** 25, driver: '1', cuda: '13' }
      report.times = gpuTimes({ token: 20e-6, tile_1: 14e-6 }, one)
    })
    // The bounds are those of roofline.js.
    expect(text).toContain(
      '| 4096 | 512 | 3.15 | 10.5 / 2.75 | 20 | 52 % | 6.94 / 2.73 | 14 | 50 % | 5.85 / 2.73 |  |  |',
    )
  })

  test('marks times and goals of few samples', () => {
    const text = written((report) => {
      report.times = gpuTimes(measured, one)
      for (const { eager } of Object.values(report.times.sizes[0]?.times ?? {})) eager.samples = 1
      report.goals = goalsOf(report.times)
    })
    expect(text).toContain('| 4096 | 512 | 9 (9–9) † |')
    expect(text).toContain('forward, from Python: 1.91 †')
    expect(text).toContain('\n\n† fewer than 5 samples')
  })

  test('ends with the times of each size, and how they were measured', () => {
    const text = written(
      (report) => {
        report.times = gpuTimes(measured, one)
        report.goals = goalsOf(report.times)
      },
      ['--table'],
    )
    expect(text).toMatch(/\nforward +4096 +512 +9 +6 +20 +28 +600 +from Python\n/)
    expect(text).toMatch(/\npartly measured +`tile`.*: 1.91 … 1.91, 1 of 1 cases, 15 not measured\n/)
  })
})

describe('the bounds', () => {
  test('are those of packages/native/cuda/roofline.js for its device', () => {
    const lines = succeed(process.execPath, [join(native, 'cuda/roofline.js')])
      .trimEnd()
      .split('\n')
      .slice(2)
    const expected = lines.map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
    const sizes = expected.map(([d, tokens]) => [Number(d), Number(tokens)])
    const found: number[][][] = evaluate(
      'bounds',
      '[[bounds.bounds(d, t, k, input["gpu"]) for k in bounds.KERNELS] for input in [json.load(sys.stdin)] for d, t in input["sizes"]]',
      JSON.stringify({ gpu: H200, sizes }),
    )
    const micro = (seconds: number) => String(Number((seconds * 1e6).toPrecision(2)))
    expect(found.map((kernels) => kernels.map((pair) => pair.map(micro).join(' / ')))).toEqual(
      expected.map((cells) => cells.slice(3)),
    )
    expect(found).toHaveLength(16)
  })
})

describe('the comparison with PEFT', () => {
  const verdict = (status: number, isCutOff: boolean, found: object | null): string[] =>
    evaluate(
      'check, command',
      `check.peft_verdict(command.Result(${status}, "Killed", 1, ${isCutOff ? 'True' : 'False'}), json.load(sys.stdin))`,
      JSON.stringify(found),
    )
  const found = { checks: 9, failed: 0, seed: 4, 'not checked': [] as string[] }

  test('passes if all cases were compared', () => {
    expect(verdict(0, false, found)).toEqual(['passed', '9 checks, 0 failed, seed 4'])
  })

  test('is cut off if its process was ended, and names what was not compared', () => {
    const part = { ...found, 'not checked': ['rows', 'NaN'] }
    const note = '9 checks, 0 failed, seed 4, not checked: rows, NaN'
    expect(verdict(-9, true, part)).toEqual(['cut off', note])
    expect(verdict(3, false, part)).toEqual(['cut off', note])
    expect(verdict(-9, true, null)[0]).toBe('cut off')
  })

  test('fails with a wrong number, or if its process crashed', () => {
    expect(verdict(-9, true, { ...found, failed: 1, 'not checked': ['rows'] })[0]).toBe('failed')
    expect(verdict(1, false, { ...found, failed: 1 })).toEqual(['failed', '9 checks, 1 failed, seed 4'])
    expect(verdict(-11, false, { ...found, 'not checked': ['rows'] })[0]).toBe('failed')
    expect(verdict(1, false, null)).toEqual(['failed', 'exit status 1: Killed'])
  })
})

describe('the times', () => {
  const found = {
    sizes: [1, 2],
    branches: [3],
    checks: 56,
    wrong: [] as string[],
    'not measured': [] as string[],
  }
  const verdict = (status: number, isCutOff: boolean, times: object | null): string[] =>
    evaluate(
      'check, command',
      `check.times_verdict(command.Result(${status}, "Killed", 1, ${isCutOff ? 'True' : 'False'}), json.load(sys.stdin))`,
      JSON.stringify(times),
    )

  test('fail with a wrong number of a kernel that was timed', () => {
    expect(verdict(0, false, found)).toEqual(['passed', '3 cases, 56 checks, 0 failed'])
    expect(verdict(0, false, { ...found, wrong: ['y'] })).toEqual(['failed', '3 cases, 56 checks, 1 failed'])
    expect(verdict(-9, true, { ...found, wrong: ['y'] })[0]).toBe('failed')
  })

  test('are cut off if something was not measured', () => {
    const note = '3 cases, 56 checks, 0 failed, 1 not measured'
    expect(verdict(0, false, { ...found, 'not measured': ['d = 1'] })).toEqual(['cut off', note])
    expect(verdict(-9, true, found)[0]).toBe('cut off')
    expect(verdict(-9, true, null)).toEqual(['cut off', 'Killed'])
    expect(verdict(1, false, found)).toEqual([
      'failed',
      '3 cases, 56 checks, 0 failed; exit status 1: Killed',
    ])
  })
})

describe('a row of the conformance suite', () => {
  const row = (status: number, output: string) =>
    evaluate('node_rows', `node_rows.row("tfjs-webgpu", ${status}, sys.stdin.read())`, output)
  const level = (status: string) => ({
    level: 1,
    device: 'webgpu',
    status,
    maxError: 0,
    limit: 1,
    reason: null,
  })

  test('fails only if a level fails', () => {
    expect(row(0, JSON.stringify([level('pass')])).status).toBe('passed')
    expect(row(1, JSON.stringify([level('fail')]))).toMatchObject({ status: 'failed', note: 'level 1' })
  })

  test('did not run if its runtime crashed', () => {
    expect(row(139, 'a banner\n')).toMatchObject({
      status: 'did not run',
      note: 'exit status 139; a banner',
    })
    expect(row(139, '')).toMatchObject({ status: 'did not run', note: 'exit status 139' })
    expect(row(139, JSON.stringify([level('pass')]))).toMatchObject({ status: 'did not run' })
  })

  test('runs the small cases', () => {
    expect(evaluate('node_rows', 'node_rows.command("root", "tfjs-webgpu")', '')).toContain('--quick')
  })

  test('does not change the library of the packages; if it is missing, a copy takes its place for the row', () => {
    const library = join(folder, 'built.so')
    const target = join(folder, 'native/build/libfourierft-cuda.so')
    writeFileSync(library, 'built')
    const inContext = `(lambda context, target: [context.__enter__(), open(target).read(), os.listdir(os.path.dirname(target)), context.__exit__(None, None, None)])(node_rows.placed(${JSON.stringify(library)}, ${JSON.stringify(target)}), ${JSON.stringify(target)})`
    expect(evaluate('os, node_rows', inContext, '').slice(0, 3)).toEqual([
      "with a copy of this check's library as packages/native/build/libfourierft-cuda.so",
      'built',
      ['libfourierft-cuda.so'],
    ])
    expect(existsSync(target)).toBe(false)
    writeFileSync(target, 'own')
    expect(evaluate('os, node_rows', inContext, '').slice(0, 2)).toEqual([
      'with packages/native/build/libfourierft-cuda.so as it was',
      'own',
    ])
    expect(readFileSync(target, 'utf8')).toBe('own')
  })
})

describe('the output of a sanitizer', () => {
  const verdict = (status: number, output: string): string[] =>
    evaluate('sanitizers', `sanitizers.verdict(${status}, sys.stdin.read())`, output)
  const summary = '========= COMPUTE-SANITIZER\n40 checks, 0 failed\n========= '

  test('passes without a finding', () => {
    expect(verdict(0, `${summary}ERROR SUMMARY: 0 errors\n`)).toEqual([
      'passed',
      'ERROR SUMMARY: 0; 40 checks, 0 failed',
    ])
    expect(verdict(0, `${summary}RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n`)[0]).toBe(
      'passed',
    )
  })

  test('fails with a finding, or if the checks failed', () => {
    expect(verdict(86, `${summary}ERROR SUMMARY: 2 errors\n`)[0]).toBe('failed')
    expect(verdict(1, '9 checks, 1 failed\n========= ERROR SUMMARY: 0 errors\n')[0]).toBe('failed')
  })

  test('fails with a finding even if the sanitizer broke down after it', () => {
    const output =
      '========= Invalid __global__ write of size 4 bytes\n========= Internal Sanitizer Error: 7\n========= ERROR SUMMARY: 3 errors\n'
    expect(verdict(86, output)).toEqual(['failed', 'ERROR SUMMARY: 3'])
    expect(verdict(77, '========= Internal Sanitizer Error\n========= ERROR SUMMARY: 0 errors\n')[0]).toBe(
      'did not run',
    )
    const hazard = '========= Error: Race reported between Write access\n========= Device not supported\n'
    expect(verdict(86, hazard)[0]).toBe('failed')
  })

  test('did not run if CUDA calls fail on a device that it does not support', () => {
    const output =
      '========= Device not supported\n========= Program hit cudaErrorInvalidDevice (error 101) due to "invalid device ordinal"\n========= ERROR SUMMARY: 1 error\n'
    expect(verdict(86, output)[0]).toBe('did not run')
  })

  test('did not run if the sanitizer does not support the device, or if nothing was checked', () => {
    const refused = '========= Error: Device not supported\nFAILED cudaMalloc\n3 checks, 3 failed\n'
    expect(verdict(86, refused)).toEqual(['did not run', 'Error: Device not supported'])
    expect(verdict(77, 'skipped: no CUDA device\n')).toEqual(['did not run', 'skipped: no CUDA device'])
  })
})

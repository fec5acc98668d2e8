/**
 * The operators in the user's own ONNX Runtime, compared with the float64 reference; overlapping runs, freed sessions, sessions of workers.
 * They run on the CPU, with the CUDA kernels on the CPU, and on CUDA if there is a device.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import {
  createLayer,
  explicitEntries,
  type Layer,
  referenceBackward,
  referenceForward,
} from '@fourierft/core'
import { beforeAll, describe, expect, test } from 'vitest'
import type { OnnxExecutionProvider } from '../js/cuda-provider.js'
import { kernelProblem } from '../js/kernel.js'
import {
  type OnnxRunOptions,
  type OnnxRuntime,
  type OnnxSession,
  type OnnxSessionOptions,
  openOnnxRuntime,
} from '../js/onnxruntime.js'

const [d1, d2, n] = [24, 20, 30]
const [batch, length] = [2, 3]
const tokens = batch * length

// The entries of make-operator-models.py.
const positions = Array.from({ length: n }, (_, l) => (l * 17) % (d1 * d2))
const entries = explicitEntries({
  shape: [d1, d2],
  rows: positions.map((position) => Math.floor(position / d2)),
  columns: positions.map((position) => position % d2),
})

const numbers = (count: number, phase: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i + phase))
const x = numbers(tokens * d2, 0.1)
const g = numbers(tokens * d1, 0.5)
const coefficients = [numbers(n, 1), numbers(n, 2)]
const layers = coefficients.map((numbers, index) =>
  createLayer({
    name: `layer ${index}`,
    shape: [d1, d2],
    entries,
    coefficients: numbers,
    // The operator's coefficients include α.
    scaling: 1,
  }),
)

const require = createRequire(import.meta.url)
const manifest = require.resolve('onnxruntime-node/package.json')
const folder = join(dirname(manifest), 'bin', 'napi-v6', process.platform, process.arch)
const library = join(
  folder,
  process.platform === 'win32'
    ? 'onnxruntime.dll'
    : process.platform === 'darwin'
      ? `libonnxruntime.${require(manifest).version}.dylib`
      : 'libonnxruntime.so.1',
)
const model = (name: string) => fileURLToPath(new URL(`__fixtures__/${name}.onnx`, import.meta.url))

// The names of skipped tests give these reasons.
const problem = kernelProblem()
await import('onnxruntime-node')
const opened = problem === undefined ? openOnnxRuntime(library) : undefined
const problems = {
  cpu: problem,
  'cuda-host': opened === undefined ? problem : await opened.cudaProblem('cuda-host'),
  cuda: opened === undefined ? problem : await opened.cudaProblem(),
}
const hasDevice = problems.cuda === undefined
const devices = ['cpu', 'cuda-host', ...(hasDevice ? (['cuda'] as const) : [])] as const

describe.each(devices.map((device) => ({ device, problem: problems[device] })))(
  'the operators in ONNX Runtime on $device',
  ({ device, problem }) => {
    if (problem !== undefined) return test.skip(`skipped: ${problem}`)
    const runtime = openOnnxRuntime(library)
    let session: OnnxSession
    const create = (name: string, options: OnnxSessionOptions = {}) =>
      runtime.createSession(model(name), { executionProviders: [device, 'cpu'], ...options })

    beforeAll(async () => {
      session = await create('layer-float32', { intraOpNumThreads: 2 })
    })

    const feeds = (adapters: readonly Float32Array[], rows: readonly number[]) => ({
      x: { type: 'float32', dims: [batch, length, d2], data: x },
      g: { type: 'float32', dims: [batch, length, d1], data: g },
      c: {
        type: 'float32',
        dims: [adapters.length, n],
        data: Float32Array.from(adapters.flatMap((adapter) => [...adapter])),
      },
      rows: { type: 'int64', dims: [rows.length], data: BigInt64Array.from(rows, BigInt) },
    })
    const run = (
      adapters: readonly Float32Array[],
      rows: readonly number[],
      chosenSession = session,
      options?: OnnxRunOptions,
    ) => chosenSession.run(feeds(adapters, rows), ['base', 'y', 'grad_c', 'grad_x'], options)

    /** `max |a − b|` over `max |b|`. */
    const difference = (a: ArrayLike<number>, b: ArrayLike<number>) => {
      const values = Array.from(b)
      const largest = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
      return values.reduce((max, value, i) => Math.max(max, Math.abs((a[i] as number) - value)), 0) / largest
    }

    const array = (tensor: { data: unknown } | undefined) => tensor?.data as Float32Array

    // Conformance's limit for levels 4 and 5 in float32.
    const limit = 1e-5

    test('describes inputs and outputs', () => {
      expect(session.inputs[0]).toEqual({
        name: 'x',
        isTensor: true,
        type: 'float32',
        shape: ['batch', 'tokens', d2],
      })
      expect(session.inputs[3]).toEqual({ name: 'rows', isTensor: true, type: 'int64', shape: ['rows'] })
      expect(session.outputs.map(({ name }) => name)).toEqual(['base', 'y', 'grad_c', 'grad_x'])
    })

    test('without adapters y equals the base and grad_x its base, bit for bit, and grad_c is empty', async () => {
      const { base, y, grad_c, grad_x } = await run([], [0])
      expect(array(y)).toEqual(array(base))
      expect(grad_c?.dims).toEqual([0, n])
      expect(array(grad_x)).toEqual(x)
    })

    const cases: { name: string; rows: number[]; layerOfToken: number[] }[] = [
      { name: 'the first of two adapters', rows: [0], layerOfToken: [0, 0, 0, 0, 0, 0] },
      { name: 'the second of two adapters', rows: [1], layerOfToken: [1, 1, 1, 1, 1, 1] },
      { name: 'one adapter for each row of the batch', rows: [1, 0], layerOfToken: [1, 1, 1, 0, 0, 0] },
      { name: 'a row without an adapter', rows: [-1, 1], layerOfToken: [-1, -1, -1, 1, 1, 1] },
      { name: 'one adapter for each token', rows: [0, 1, -1, 1, 0, 0], layerOfToken: [0, 1, -1, 1, 0, 0] },
    ]

    test.each(cases)('$name: y and the gradients', async ({ rows, layerOfToken }) => {
      const { base, y, grad_c, grad_x } = await run(coefficients, rows)
      const options = { rows: Int32Array.from(layerOfToken) }
      const expected = referenceForward(layers, x, Float64Array.from(array(base)), options)
      const gradients = referenceBackward(layers, x, g, options)
      expect(difference(array(y), expected)).toBeLessThan(limit)
      expect(
        difference(
          array(grad_c),
          gradients.coefficients.flatMap((gradient) => [...gradient]),
        ),
      ).toBeLessThan(limit)
      expect(
        difference(
          array(grad_x),
          gradients.x.map((value, i) => value + x[i]),
        ),
      ).toBeLessThan(limit)
    })

    test('uses the coefficients of each run', async () => {
      const first = await run(coefficients, [0])
      const second = await run([...coefficients].reverse(), [0])
      expect(array(second.y)).toEqual(array((await run(coefficients, [1])).y))
      expect(array(second.y)).not.toEqual(array(first.y))
    })

    test('rounds the exact sum once for float16 activations', async () => {
      const half = await runtime.createSession(new Uint8Array(readFileSync(model('layer-float16'))), {
        executionProviders: [{ name: device }],
      })
      // Multiples of a quarter, exact in float16.
      const values = (count: number) =>
        Float32Array.from({ length: count }, (_, i) => (((i * 7) % 11) - 5) / 4)
      const bits = (count: number) => Uint16Array.from(values(count), halfBits)
      const results = await half.run(
        {
          x: { type: 'float16', dims: [batch, length, d2], data: bits(tokens * d2) },
          g: { type: 'float16', dims: [batch, length, d1], data: bits(tokens * d1) },
          c: { type: 'float32', dims: [1, n], data: coefficients[0] as Float32Array },
          rows: { type: 'int64', dims: [1], data: BigInt64Array.of(0n) },
        },
        ['base', 'y', 'grad_c'],
      )
      const base = halves(results.base?.data as ArrayBufferView)
      const expected = referenceForward(
        layers.slice(0, 1) as Layer[],
        values(tokens * d2),
        Float64Array.from(base),
      )
      // Half a unit in the last place of the largest float16 in y, relative to it: 2^-11.
      expect(difference(halves(results.y?.data as ArrayBufferView), expected)).toBeLessThan(2 ** -11 + limit)
      const { coefficients: gradients } = referenceBackward(
        layers.slice(0, 1),
        values(tokens * d2),
        values(tokens * d1),
      )
      expect(difference(array(results.grad_c), gradients[0] as Float64Array)).toBeLessThan(limit)
      half.release()
    })

    test('rounds the exact sum once for bfloat16 activations', async () => {
      const bfloat16 = await create('layer-bfloat16')
      const values = (count: number) =>
        Float32Array.from({ length: count }, (_, i) => (((i * 7) % 11) - 5) / 4)
      const results = await bfloat16.run(
        {
          x: { type: 'float32', dims: [batch, length, d2], data: values(tokens * d2) },
          g: { type: 'float32', dims: [batch, length, d1], data: values(tokens * d1) },
          c: { type: 'float32', dims: [1, n], data: coefficients[0] as Float32Array },
          rows: { type: 'int64', dims: [1], data: BigInt64Array.of(0n) },
        },
        ['base', 'y', 'grad_c', 'grad_x'],
      )
      const first = layers.slice(0, 1)
      const base = Float64Array.from(array(results.base))
      const expected = referenceForward(first, values(tokens * d2), base)
      const gradients = referenceBackward(first, values(tokens * d2), values(tokens * d1))
      const gradX = gradients.x.map((value, i) => value + values(tokens * d2)[i])
      // Half a unit in the last place of the largest bfloat16, relative to it: 2^-8.
      expect(difference(array(results.y), expected)).toBeLessThan(2 ** -8 + limit)
      expect(difference(array(results.grad_x), gradX)).toBeLessThan(2 ** -8 + limit)
      expect(difference(array(results.grad_c), gradients.coefficients[0] as Float64Array)).toBeLessThan(limit)
      bfloat16.release()
    })

    test('runs overlap off the main thread, each with its own adapters', async () => {
      const expected = [array((await run(coefficients, [0])).y), array((await run(coefficients, [1])).y)]
      const count = device === 'cuda-host' ? 40 : 400
      let settledRuns = 0
      const runs = Array.from({ length: count }, async (_, i) => {
        const result = await run(coefficients, [i % 2])
        settledRuns++
        return result
      })
      // A result from another thread arrives in a later turn of the event loop. A result computed during the call would arrive after a few microtasks.
      for (let i = 0; i < 100; i++) await undefined
      expect(settledRuns).toBe(0)
      for (const [i, { y }] of (await Promise.all(runs)).entries()) expect(array(y)).toEqual(expected[i % 2])
    })

    test('rejects invalid inputs and options by name, and the session stays usable', async () => {
      const before = array((await run(coefficients, [0])).y)
      for (const index of [7, 2, -2, 2 ** 40])
        await expect(run(coefficients, [0, index])).rejects.toThrow(
          `rows[1]: expected -1 ... 1; received ${index}`,
        )
      await expect(run(coefficients, [0, 0, 0, 0])).rejects.toThrow(
        'rows: expected a divisor of 6 tokens; received 4 rows',
      )
      const { g: _, ...incomplete } = feeds(coefficients, [0])
      await expect(session.run(incomplete, ['base'])).rejects.toThrow('input g is missing')
      for (const wrong of [
        { dims: [9, 9, d2] },
        { dims: [batch, length, Number.NaN] },
        { dims: [batch, length, 2 ** 60] },
        { dims: [batch, length, d2 + 0.5] },
        { data: 'text' as unknown as Float32Array },
      ]) {
        const { x, ...others } = feeds(coefficients, [0])
        await expect(session.run({ ...others, x: { ...x, ...wrong } }, ['base'])).rejects.toThrow('input x')
      }
      await expect(runtime.createSession(new TextEncoder().encode('no model'))).rejects.toThrow('protobuf')
      await expect(runtime.createSession(join(folder, 'missing.onnx'))).rejects.toThrow('missing.onnx')
      await expect(create('layer-float32', { graphOptimizationLevel: 'most' as 'all' })).rejects.toThrow(
        'graphOptimizationLevel: expected one of',
      )
      await expect(create('layer-float32', { intraOpNumThreads: -5 })).rejects.toThrow(
        'intraOpNumThreads: expected 0 or a positive integer; received -5',
      )
      const options: [OnnxSessionOptions, string][] = [
        [{ intraOpNumThreads: 2 ** 32 + 1 }, 'intraOpNumThreads: expected an integer of'],
        [{ logVerbosityLevel: Number.NaN }, 'logVerbosityLevel: expected an integer of'],
        [{ freeDimensionOverrides: { batch: 1.5 } }, 'freeDimensionOverrides.batch: expected an integer of'],
        [
          { freeDimensionOverrides: { batch: 2 ** 53 } },
          'freeDimensionOverrides.batch: expected an integer of',
        ],
        [{ enableMemPattern: 1 as unknown as boolean }, 'enableMemPattern: expected a boolean'],
        [{ logId: 'a\0b' }, 'expected a string without NUL characters'],
      ]
      for (const [option, message] of options)
        await expect(create('layer-float32', option)).rejects.toMatchObject({
          code: 'INVALID_OPTION',
          message: expect.stringContaining(message),
        })
      await expect(run([], [0], session, { logSeverityLevel: (2 ** 32) as 0 })).rejects.toThrow(
        'logSeverityLevel: expected an integer of',
      )
      // The longest array that JavaScript has: memory is not reserved by the length.
      await expect(session.run(feeds([], [0]), new Array(2 ** 32 - 1))).rejects.toThrow()
      await expect(session.run(feeds([], [0]), ['base\0'])).rejects.toThrow('without NUL')
      await expect(session.run(feeds([], [0]), ['nothing'])).rejects.toThrow('nothing')
      expect(array((await run(coefficients, [0])).y)).toEqual(before)
    })

    test('a run uses the inputs as they were when it started', async () => {
      const expected = array((await run(coefficients, [0, 1])).y)
      const invalidations: ((data: ArrayBufferView) => void)[] = [
        (data) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength).fill(0x7f),
        (data) => structuredClone(data.buffer, { transfer: [data.buffer as ArrayBuffer] }),
      ]
      for (const invalidate of invalidations) {
        const inputs = Object.entries(feeds(coefficients, [0, 1])).map(
          ([name, tensor]) => [name, { ...tensor, data: tensor.data.slice() }] as const,
        )
        const running = session.run(Object.fromEntries(inputs), ['y'])
        for (const [, { data }] of inputs) invalidate(data)
        expect(array((await running).y)).toEqual(expected)
      }
      const shrinking = Reflect.construct(ArrayBuffer, [x.byteLength, { maxByteLength: x.byteLength }])
      new Float32Array(shrinking).set(x)
      const resized = { type: 'float32', dims: [batch, length, d2], data: new Float32Array(shrinking) }
      const running = session.run({ ...feeds(coefficients, [0, 1]), x: resized }, ['y'])
      shrinking.resize(0)
      expect(array((await running).y)).toEqual(expected)
      await expect(session.run({ ...feeds(coefficients, [0, 1]), x: resized }, ['y'])).rejects.toThrow(
        'input x',
      )
    })

    test('passes session options to ONNX Runtime', async () => {
      const fixed = await create('layer-float32', {
        freeDimensionOverrides: { batch: 2 },
        extra: { session: { intra_op: { allow_spinning: '0' } } },
        enableCpuMemArena: false,
        enableMemPattern: false,
        executionMode: 'parallel',
        interOpNumThreads: 2,
        graphOptimizationLevel: 'basic',
        logId: 'fixed',
        logSeverityLevel: 3,
        logVerbosityLevel: 0,
      })
      expect(fixed.inputs[0]).toMatchObject({ shape: [2, 'tokens', d2] })
      const { base } = await run([], [0], fixed, { tag: 'a run', logSeverityLevel: 3, logVerbosityLevel: 0 })
      expect(array(base)).toEqual(array((await run([], [0])).base))
      fixed.release()
    })

    test('a released session completes its last run and rejects further ones', async () => {
      const short = await create('layer-float32')
      const last = run(coefficients, [0], short)
      short.release()
      short.release()
      await expect(run(coefficients, [0], short)).rejects.toMatchObject({
        code: 'INVALID_STATE',
        message: 'the session has been released',
      })
      expect(array((await last).y)).toEqual(array((await run(coefficients, [0])).y))
    })

    test('works in a worker thread', async () => {
      const source = `
      import { parentPort, workerData } from 'node:worker_threads'
      const { entry, library, model, device, inputs } = workerData
      const { openOnnxRuntime } = await import(entry)
      const runtime = openOnnxRuntime(library)
      const session = await runtime.createSession(model, { executionProviders: [device] })
      const { y } = await session.run(inputs, ['y'])
      parentPort.postMessage({ version: runtime.version, y: y.data })`
      const worker = new Worker(source, {
        eval: true,
        workerData: {
          entry: new URL('../dist/index.js', import.meta.url).href,
          library,
          model: model('layer-float32'),
          device,
          inputs: {
            x: { type: 'float32', dims: [batch, length, d2], data: x },
            g: { type: 'float32', dims: [batch, length, d1], data: g },
            c: { type: 'float32', dims: [1, n], data: coefficients[0] },
            rows: { type: 'int64', dims: [1], data: BigInt64Array.of(0n) },
          },
        },
      })
      const answer = await new Promise((resolve, reject) =>
        worker.once('message', resolve).once('error', reject),
      )
      await worker.terminate()
      const { y } = await run(coefficients, [0])
      expect(answer).toEqual({ version: runtime.version, y: array(y) })
    })
  },
)

describe.skipIf(problem !== undefined)(`models as bytes${problem ? ` (skipped: ${problem})` : ''}`, () => {
  const file = readFileSync(model('layer-float32'))
  const names = ['x', 'g', 'c', 'rows']

  test('are read before createSession returns', async () => {
    for (const invalidate of [
      (bytes: Uint8Array<ArrayBuffer>) => bytes.fill(0xff),
      (bytes: Uint8Array<ArrayBuffer>) => structuredClone(bytes.buffer, { transfer: [bytes.buffer] }),
    ]) {
      const bytes = new Uint8Array(file)
      const creating = (opened as OnnxRuntime).createSession(bytes)
      invalidate(bytes)
      const session = await creating
      expect(session.inputs.map(({ name }) => name)).toEqual(names)
      session.release()
    }
  })

  test('can be in shared memory', async () => {
    const bytes = new Uint8Array(new SharedArrayBuffer(file.length))
    bytes.set(file)
    const session = await (opened as OnnxRuntime).createSession(bytes)
    expect(session.inputs.map(({ name }) => name)).toEqual(names)
    session.release()
  })
})

describe.skipIf(problem !== undefined)(`ONNX Runtime${problem ? ` (skipped: ${problem})` : ''}`, () => {
  const runtime = opened as OnnxRuntime

  test('reports the version of the library of onnxruntime-node', () => {
    expect(runtime.version).toBe(require(manifest).version)
    expect(runtime.untested).toBeUndefined()
  })

  test('makes the first sessions of a process at the same time', () => {
    const program = fileURLToPath(new URL('programs/first-sessions.js', import.meta.url))
    const root = fileURLToPath(new URL('..', import.meta.url))
    const model = fileURLToPath(new URL('__fixtures__/layer-float32.onnx', import.meta.url))
    // Without a lock about one of seven of these processes fails.
    for (let i = 0; i < 15; i++) {
      const { status, stderr } = spawnSync(process.execPath, [program, root, library, model], {
        encoding: 'utf8',
        env: { ...process.env, UV_THREADPOOL_SIZE: '16' },
      })
      expect(status, stderr).toBe(0)
    }
  })

  test('rejects a library that is not loaded', () => {
    expect(() => openOnnxRuntime(join(folder, 'no-such-library'))).toThrow(
      expect.objectContaining({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(/is not loaded in this process; load onnxruntime-node first$/),
        advice: 'load onnxruntime-node first',
      }),
    )
  })

  // The old versions cannot be installed beside the tested one. Libraries that only report a version replace them; they are loaded before
  // Node starts.
  test.each([
    ['1.17.3', 'ONNX Runtime 1.17.3 is too old: expected 1.18 or newer'],
    ['0.5', 'ONNX Runtime 0.5 is too old: expected 1.18 or newer'],
    ['2.0.0', 'ONNX Runtime 2.0.0 no longer has the interface of 1.18'],
  ])('rejects version %s', (version, message) => {
    const folder = mkdtempSync(join(tmpdir(), 'fourierft-version-'))
    try {
      const library = join(folder, 'libonnxruntime.so.1')
      const source = `
        static const char* version(void) { return "${version}"; }
        static const void* get_api(unsigned number) { (void)number; return 0; }
        static const struct { const void* (*get_api)(unsigned); const char* (*version)(void); } base = {get_api, version};
        const void* OrtGetApiBase(void) { return &base; }`
      const compiled = spawnSync('cc', ['-shared', '-fPIC', '-o', library, '-x', 'c', '-'], { input: source })
      if (compiled.status !== 0) throw new Error(`cc: ${compiled.error ?? compiled.stderr}`)
      const program = `
        import { openOnnxRuntime } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)}
        try { openOnnxRuntime(${JSON.stringify(library)}) } catch ({ code, message }) { console.log(code, message) }`
      const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
        encoding: 'utf8',
        env: { ...process.env, LD_PRELOAD: library, DYLD_INSERT_LIBRARIES: library },
      })
      expect(stdout + stderr).toBe(`UNSUPPORTED ${message}\n`)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  const unknown = { name: 'tpu' } as unknown as OnnxExecutionProvider
  test.each([
    ['an unknown provider', [unknown], 'expected cpu, cuda or cuda-host; received "tpu"'],
    ...(problems['cuda-host'] === undefined
      ? ([
          ['an unknown device', [{ name: 'cuda-host', deviceId: 1 }], 'expected 0 … 0; received 1'],
          [
            'a device that is not a number',
            [{ name: 'cuda-host', deviceId: 'all' }],
            'expected 0 … 0; received all',
          ],
          [
            'a CUDA graph',
            [{ name: 'cuda-host', enableCudaGraph: true }],
            'enableCudaGraph of cuda-host: a graph would repeat the inputs and adapters of the first run',
          ],
        ] as const)
      : []),
  ] as const)('rejects %s', async (_, executionProviders, message) => {
    const creation = runtime.createSession(model('layer-float32'), { executionProviders })
    await expect(creation).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(message),
    })
  })

  test.skipIf(hasDevice)('rejects a session on CUDA without a CUDA device, with the reason', async () => {
    expect(problems.cuda).toMatch(/no CUDA device|npm run build:cuda/)
    await expect(
      runtime.createSession(model('layer-float32'), { executionProviders: ['cuda', 'cpu'] }),
    ).rejects.toMatchObject({ code: 'UNSUPPORTED', message: problems.cuda })
  })
})

/** Converts the bits of finite float16 numbers to numbers. */
function halves(view: ArrayBufferView): number[] {
  const bits = new Uint16Array(view.buffer, view.byteOffset, view.byteLength / 2)
  return Array.from(bits, (half) => {
    const [sign, exponent, fraction] = [half >> 15 ? -1 : 1, (half >> 10) & 31, half & 1023]
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25))
  })
}

/** Returns the float16 bits of a number that is exact and normal in float16. */
function halfBits(value: number): number {
  if (value === 0) return 0
  const exponent = Math.floor(Math.log2(Math.abs(value)))
  const fraction = Math.abs(value) / 2 ** exponent - 1
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | (fraction * 1024)
}

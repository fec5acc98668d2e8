/** The quick demo from end to end, as a user runs it: the built program in its own process. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { loadAdapter, readSafetensors } from '@fourierft/core'
import { kernelProblem } from '@fourierft/native'
import { createSession } from '@fourierft/onnxruntime'
import * as ort from 'onnxruntime-node'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { baseFolder, readCheckpoint } from './checkpoint-files.js'
import { largestDifference } from './largest-difference.js'
import { roundingLimit } from './rounding-limit.js'
import { typedArrayTransformer } from './typed-array-transformer.js'

const program = fileURLToPath(new URL('../dist/main.js', import.meta.url))
const node = (...args: string[]) => promisify(execFile)(process.execPath, args)
const run = (...options: string[]) => node(program, ...options)
const inlineModule = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`
/** Changes √2 to 1.42 in the GELU of the exported model. */
const hooks = `
  export async function load(url, context, next) {
    const loaded = await next(url, context)
    if (!url.endsWith('/quickstart/dist/onnx-transformer.js')) return loaded
    return { ...loaded, source: String(loaded.source).replace('Math.SQRT2', '1.42') }
  }`
const loader = `import { register } from 'node:module'; register(${JSON.stringify(inlineModule(hooks))})`
const out = await mkdtemp(join(tmpdir(), 'quickstart-'))
afterAll(() => rm(out, { recursive: true }))

describe('the quick demo', () => {
  let printed = ''
  beforeAll(async () => {
    printed = (await run('--quick', '--out', out)).stdout
  })

  it('reports that both implementations agree, and compares all methods', () => {
    expect(printed).toContain('200 of 200 test digits the same')
    expect(printed.match(/ΔW of vit\.encoder\.layer\.\d\.attention\.attention\.(query|value)/g)).toHaveLength(
      6,
    )
    // The results of this run on WebAssembly. The table rounds losses to 0.001. One of the 200 digits may be close to the decision boundary.
    for (const [method, accuracy, loss] of [
      ['FourierFT', 62, 1.449],
      ['LoRA, rank 2', 47, 2.063],
      ['LoRA, rank 4', 46, 2.29],
      ['Full fine-tuning', 70.5, 1.032],
      ['Frozen model', 33.5, 3.485],
    ] as const) {
      const [, shown, shownLoss] =
        new RegExp(`${method} +[\\d,]+ .* ([\\d.]+) % +([\\d.]+)`).exec(printed) ?? []
      expect(Math.abs(Number(shown) - accuracy), method).toBeLessThan(0.5 + 1e-9)
      expect(Math.abs(Number(shownLoss) - loss), method).toBeLessThan(0.001 + 1e-9)
    }
  })

  it('ends with the same predictions in every runtime', () => {
    const table = printed.slice(printed.indexOf('trained once'))
    const rows = [
      '@fourierft/core, float64',
      'TensorFlow.js on .+?',
      ...(kernelProblem() === undefined ? ['ONNX Runtime, native kernel'] : []),
      'ONNX Runtime, portable',
      'ONNX Runtime Web, WebAssembly',
      'transformers\\.js',
    ]
    for (const row of rows)
      expect(table).toMatch(new RegExp(`${row} +7\\.8 KB +[\\d.]+ % +200 of 200 .+ ms\n`))
    expect(table.match(/ ms\n/g)).toHaveLength(rows.length)
    expect(table.match(/not run/g) ?? []).toHaveLength(6 - rows.length)
  })

  it('names its backend, and uses the backend of --backend', async () => {
    expect(printed).toMatch(/Computes with TensorFlow\.js on (TensorFlow \(tfjs-node\)|WebAssembly)\n/)
    const { stdout } = await run('--quick', '--backend', 'wasm', '--out', join(out, 'wasm'))
    expect(stdout).toContain('Computes with TensorFlow.js on WebAssembly\n')
    expect(stdout).toContain('200 of 200 test digits the same')
  })

  it("saves a trained adapter in PEFT's layout", async () => {
    const folder = join(out, 'fourierft', 'seed-1')
    const config = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'))
    expect(config).toMatchObject({
      peft_type: 'FOURIERFT',
      n_frequency: 256,
      target_modules: ['query', 'value'],
    })
    const layers = (await loadAdapter(folder)).layers()
    expect(layers).toHaveLength(6)
    expect(layers.every(({ coefficients }) => coefficients.some((value) => value !== 0))).toBe(true)
    const file = join(folder, 'adapter_model.safetensors')
    const { tensors } = readSafetensors(await readFile(file), file)
    expect(
      [...tensors.keys()].every((name) => /^base_model\.model\..+\.fourierft_spectrum$/.test(name)),
    ).toBe(true)
  })

  it('writes the ONNX model, to which ONNX Runtime applies the adapter', async () => {
    const model = join(out, 'digits-vit', 'onnx', 'model.onnx')
    const adapter = join(out, 'fourierft', 'seed-1')
    const session = await createSession(model, { ort, adapters: adapter })
    const pixel_values = new ort.Tensor('float32', new Float32Array(784).fill(-1), [1, 1, 28, 28])
    const { logits: tuned } = await session.run({ pixel_values })
    session.disableAdapters()
    const { logits: frozen } = await session.run({ pixel_values })
    expect(tuned?.dims).toEqual([1, 10])
    const checkpoint = await readCheckpoint(baseFolder)
    const blank = { count: 1, pixels: new Float32Array(784), labels: Int32Array.of(0) }
    const layers = (await loadAdapter(adapter)).layers()
    for (const [actual, expected] of [
      [tuned, typedArrayTransformer(checkpoint, layers)(blank)],
      [frozen, typedArrayTransformer(checkpoint)(blank)],
    ] as const) {
      const data = actual?.data as Float32Array
      expect(largestDifference(expected, data)).toBeLessThanOrEqual(
        roundingLimit(checkpoint.config, expected),
      )
    }
    expect(tuned?.data).not.toEqual(frozen?.data)
    await session.release()
  })

  it('writes the picture', async () => {
    const svg = await readFile(join(out, 'loss-curves.svg'), 'utf8')
    expect(svg).toContain('FourierFT')
    expect(svg).toContain('</svg>')
  })
})

describe('a demo whose exported model differs slightly', () => {
  it('names the runtimes that disagree, and exits with 1', async () => {
    const { rejects } = expect(
      node(
        '--import',
        inlineModule(loader),
        program,
        '--quick',
        '--backend',
        'wasm',
        '--out',
        join(out, 'other'),
      ),
    )
    await rejects.toMatchObject({
      code: 1,
      stdout: expect.stringMatching(
        /These disagree: .*ONNX Runtime, portable; ONNX Runtime Web.*; transformers\.js\n/,
      ),
    })
  })
})

describe('the command line', () => {
  it('rejects an unknown option', async () => {
    await expect(run('--quik')).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('--quick') })
  })

  it('names the folder that it cannot write to', async () => {
    await expect(run('--quick', '--out', join(program, 'sub'))).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringContaining(join(program, 'sub')),
    })
  })
})

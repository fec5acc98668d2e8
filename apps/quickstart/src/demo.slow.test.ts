/** The quick demo from end to end, as a user runs it: a process of its own, on the built program. */
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

const program = fileURLToPath(new URL('../dist/main.js', import.meta.url))
const node = (...args: string[]) => promisify(execFile)(process.execPath, args)
const run = (...options: string[]) => node(program, ...options)
const inlineModule = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`
/** Has √2 of the exported GELU read as 1.42. */
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
  }, 120_000)

  it('says that both implementations agree, and compares all methods', () => {
    expect(printed).toContain('200 of 200 test digits the same')
    expect(printed.match(/ΔW of vit\.encoder\.layer\.\d\.attention\.attention\.(query|value)/g)).toHaveLength(
      6,
    )
    for (const method of ['FourierFT', 'LoRA, rank 2', 'LoRA, rank 4', 'Full fine-tuning', 'Frozen model']) {
      expect(printed).toMatch(new RegExp(`${method} +[\\d,]+ .* %`))
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

  it('names what it computes with, and computes with what it is told to', async () => {
    expect(printed).toMatch(/Computes with TensorFlow\.js on (TensorFlow \(tfjs-node\)|WebAssembly)\n/)
    const { stdout } = await run('--quick', '--backend', 'wasm', '--out', join(out, 'wasm'))
    expect(stdout).toContain('Computes with TensorFlow.js on WebAssembly\n')
    expect(stdout).toContain('200 of 200 test digits the same')
  })

  it("leaves an adapter in PEFT's layout that has learned something", async () => {
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

  it('leaves the ONNX model, which takes the adapter in any ONNX Runtime', async () => {
    const model = join(out, 'digits-vit', 'onnx', 'model.onnx')
    const session = await createSession(model, { ort, adapters: join(out, 'fourierft', 'seed-1') })
    const pixel_values = new ort.Tensor('float32', new Float32Array(784).fill(-1), [1, 1, 28, 28])
    const { logits: tuned } = await session.run({ pixel_values })
    session.disableAdapters()
    const { logits: frozen } = await session.run({ pixel_values })
    expect(tuned?.dims).toEqual([1, 10])
    expect(tuned?.data).not.toEqual(frozen?.data)
    await session.release()
  })

  it('leaves the picture', async () => {
    const svg = await readFile(join(out, 'loss-curves.svg'), 'utf8')
    expect(svg).toContain('FourierFT')
    expect(svg).toContain('</svg>')
  })
})

describe('a demo whose exported model is slightly another', () => {
  it('says which runtimes disagree, and exits with 1', async () => {
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
  it('refuses an option that it does not know', async () => {
    await expect(run('--quik')).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('--quick') })
  })

  it('says which folder it cannot write to', async () => {
    await expect(run('--quick', '--out', join(program, 'sub'))).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringContaining(join(program, 'sub')),
    })
  })
})

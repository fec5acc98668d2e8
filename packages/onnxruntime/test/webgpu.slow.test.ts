/**
 * `onnxruntime-node`'s WebGPU execution provider, on the machine's GPU or on SwiftShader (Vulkan on the CPU), which is part of Debian's package
 * `chromium`. SwiftShader shows that results are right; its speed shows nothing.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { testBackend } from '@fourierft/conformance/vitest'
import { uniformEntries } from '@fourierft/core'
import {
  branchFunction,
  branchTables,
  createModel,
  DataType,
  DOMAIN,
  GRADIENT_TABLE_NAMES,
  gradientFunction,
  gradientTables,
  TABLE_NAMES,
} from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { KNOWN_GAPS } from './known-gaps.js'
import { openIfSupported } from './open-if-supported.js'

const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json'

// Adds SwiftShader to the installed drivers, before ONNX Runtime searches for GPUs, which it does once in a process.
if (existsSync(SWIFTSHADER)) process.env.VK_ADD_DRIVER_FILES ??= SWIFTSHADER

const opened = await openIfSupported('webgpu')
if ('reason' in opened) {
  test.skip(`onnxruntime-webgpu (skipped: ${opened.reason})`, () => {})
} else {
  describe('onnxruntime-webgpu', () => {
    testBackend(() => opened.backend, { lacks: KNOWN_GAPS, quick: true })

    test('computes products, sums and transposes on the device, and sizes on the CPU', async () => {
      const onDevice = { MatMul: 4, Transpose: 3, Add: 1 }
      expect(await operatorsByProvider('FourierFT')).toMatchObject({ WebGpuExecutionProvider: onDevice })
      const byProvider = await operatorsByProvider('FourierFTGrad')
      expect(byProvider).toMatchObject({ WebGpuExecutionProvider: { MatMul: 7, Transpose: 5, ReduceSum: 1 } })
      expect(byProvider.CPUExecutionProvider).not.toHaveProperty('MatMul')
    })
  })
}

type Counts = Record<string, number>

/** Runs the portable function, and returns the number of operators on each provider, from ONNX Runtime's profile. */
async function operatorsByProvider(opType: 'FourierFT' | 'FourierFTGrad'): Promise<Record<string, Counts>> {
  const [d1, d2] = [24, 20]
  const entries = uniformEntries({ shape: [d1, d2], n: 30, seed: 1 })
  const isGradient = opType === 'FourierFTGrad'
  const value = (name: string, dims: (string | number)[], dataType: number = DataType.float) => ({
    name,
    dims,
    dataType,
  })
  const inputs = [value('x', ['t', d2]), value('y', ['t', d1]), value('c', ['a', 30])]
  const outputs = isGradient
    ? [value('grad_c', ['a', 30]), value('grad_x', ['t', d2])]
    : [value('sum', ['t', d1])]
  const model = createModel(
    {
      name: 'profiled',
      nodes: [
        {
          opType,
          domain: DOMAIN,
          inputs: isGradient
            ? ['x', 'y', 'x', 'c', 'rows', ...GRADIENT_TABLE_NAMES]
            : ['x', 'y', 'c', 'rows', ...TABLE_NAMES],
          outputs: outputs.map(({ name }) => name),
        },
      ],
      inputs: [...inputs, value('rows', ['r'], DataType.int64)],
      outputs,
      initializers: (isGradient ? gradientTables : branchTables)(entries, ''),
    },
    { opset: 17 },
  )
  model.addOpsetImport(DOMAIN, 1)
  model.addFunction(isGradient ? gradientFunction(17) : branchFunction(17))
  const folder = mkdtempSync(join(tmpdir(), 'fourierft-profile-'))
  try {
    const session = await ort.InferenceSession.create(model.toBytes(), {
      executionProviders: ['webgpu'],
      logSeverityLevel: 3,
      enableProfiling: true,
      profileFilePrefix: join(folder, 'profile'),
    })
    const ones = (...dims: [number, number]) =>
      new ort.Tensor('float32', new Float32Array(dims[0] * dims[1]).fill(1), dims)
    const rows = new ort.Tensor('int64', BigInt64Array.of(0n, 1n, 0n), [3])
    await session.run({ x: ones(3, d2), y: ones(3, d1), c: ones(2, 30), rows })
    session.endProfiling()
    await session.release()
    return countByProvider(readFileSync(join(folder, readdirSync(folder)[0]), 'utf8'))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function countByProvider(profile: string): Record<string, Counts> {
  const events: { args?: { provider?: string; op_name?: string } }[] = JSON.parse(profile)
  const counts: Record<string, Counts> = {}
  for (const { args: { provider, op_name: operator } = {} } of events) {
    if (provider === undefined || operator === undefined) continue
    const operators = counts[provider] ?? {}
    operators[operator] = (operators[operator] ?? 0) + 1
    counts[provider] = operators
  }
  return counts
}

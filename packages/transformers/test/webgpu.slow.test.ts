/**
 * `device: 'webgpu'` in Node, on the machine's GPU or on SwiftShader (Vulkan on the CPU), which is part of Debian's chromium. SwiftShader is
 * good for checking results, but not for measuring speed.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createOnnxRuntimeBackend } from '@fourierft/onnxruntime/conformance'
import {
  AutoModelForCausalLM,
  AutoModelForSequenceClassification,
  env,
  LogLevel,
  Tensor,
} from '@huggingface/transformers'
import { describe, expect, test } from 'vitest'
import { platform } from '#platform'
import { attach } from '../src/attach.js'
import { reasonToSkip } from './reason-to-skip.js'

const FIXTURES = fileURLToPath(new URL('__fixtures__', import.meta.url))
const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json'

// Adds SwiftShader to the installed drivers. ONNX Runtime looks for GPUs once in a process.
if (existsSync(SWIFTSHADER)) process.env.VK_ADD_DRIVER_FILES ??= SWIFTSHADER
env.localModelPath = FIXTURES
env.allowRemoteModels = false
env.logLevel = LogLevel.ERROR

const options = { dtype: 'fp32', device: 'webgpu' } as const
const reason = await reasonToSkip(async () => {
  const ort = await platform.loadOrt()
  const backend = await createOnnxRuntimeBackend('webgpu', ort && { ort })
  await backend.dispose?.()
})
const skipped = reason === undefined ? '' : ` (skipped: ${reason})`

const casesOf = (name: string) => JSON.parse(readFileSync(join(FIXTURES, name, 'vectors.json'), 'utf8')).cases
function inputsOf(inputIds: number[]) {
  const tensor = (values: number[]) =>
    new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length])
  return { input_ids: tensor(inputIds), attention_mask: tensor(inputIds.map(() => 1)) }
}

describe.skipIf(reason !== undefined)(`webgpu${skipped}`, () => {
  test('an encoder with a head agrees with PyTorch and PEFT', async () => {
    const model = await AutoModelForSequenceClassification.from_pretrained('bert', options)
    const adapters = await attach(model)
    await adapters.loadAdapter(join(FIXTURES, 'bert/adapter-a'), { name: 'adapter-a' })
    for (const testCase of casesOf('bert')) {
      for (const which of ['base', 'adapter-a']) {
        adapters.setAdapter(which === 'base' ? [] : which)
        const { input_ids, attention_mask } = inputsOf(testCase.inputIds)
        const { input_ids: token_type_ids } = inputsOf(testCase.inputIds.map(() => 0))
        const { logits } = await model({ input_ids, attention_mask, token_type_ids })
        // 1e-5: two layers with some hundred additions of 2⁻²⁴ each.
        for (const [i, logit] of testCase[which].logits.entries())
          expect(logits.data[i]).toBeCloseTo(logit, 5)
      }
    }
    await model.dispose()
  })

  test('a decoder, whose cache stays on the device, generates the tokens of PyTorch and PEFT', async () => {
    const model = await AutoModelForCausalLM.from_pretrained('llama', options)
    const adapters = await attach(model)
    await adapters.loadAdapter(join(FIXTURES, 'llama/adapter-b'))
    const [testCase] = casesOf('llama')
    const generation = { ...inputsOf(testCase.inputIds), max_new_tokens: 64, do_sample: false }
    const generated = (await model.generate(generation)) as Tensor
    expect(Array.from(generated.data as BigInt64Array, Number).slice(testCase.inputIds.length)).toEqual(
      testCase['adapter-b'].tokens,
    )
    await model.dispose()
  })
})

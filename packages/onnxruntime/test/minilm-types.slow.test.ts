/** Gradients of MiniLM with 8-bit weights and in float16 against PyTorch and PEFT, which `scripts/minilm-types.py` has computed. */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { createSession } from '../src/create-session.js'
import { cosineSimilarity, createTrainer } from '../src/index.js'
import { decodeArray, type EncodedArray } from './encoded-array.js'
import { makeBatch } from './minilm-batch.js'
import { inEightBits, inHalf } from './minilm-types.js'

const MODEL = fileURLToPath(new URL('../../../.cache/minilm-0.2.1/model.onnx', import.meta.url))
const FOLDER = fileURLToPath(new URL('__fixtures__/minilm', import.meta.url))
const hasModel = existsSync(MODEL)
const skipped = hasModel
  ? ''
  : ' (skipped: node packages/onnxruntime/scripts/minilm.js has not fetched the model)'

/** The name of the mean-pooled embeddings in the file. */
const EMBEDDINGS = '461'

interface Expected {
  readonly loss: number
  /** The error that is allowed, relative to the norm of the gradient. */
  readonly tolerance: number
  readonly modules: readonly string[]
  /** ∂L/∂c of all modules, one after the other. */
  readonly gradient: EncodedArray
}

const expected: Readonly<Record<'q8' | 'float16', Expected>> = JSON.parse(
  readFileSync(`${FOLDER}/gradients.json`, 'utf8'),
)

const CONVERSIONS = {
  q8: inEightBits,
  float16: (bytes: Uint8Array) => inHalf(bytes, EMBEDDINGS),
}

/** AdamW's first moment moves by this share towards the gradient. */
const SHARE = 1 - 0.9

describe.skipIf(!hasModel)(`paraphrase-MiniLM-L3-v2${skipped}`, () => {
  describe.each([true, false])('native: %s', (native) => {
    test.each(['q8', 'float16'] as const)('%s: the gradient is that of PyTorch and PEFT', async (type) => {
      const { loss, tolerance, modules, gradient } = expected[type]
      const model = CONVERSIONS[type](readFileSync(MODEL))
      const session = await createSession(model, { native, adapters: { emails: `${FOLDER}/adapter` } })
      const trainer = await createTrainer(session, {
        adapter: 'emails',
        loss: cosineSimilarity(EMBEDDINGS, { pooling: 'none' }),
      })
      const report = await trainer.step(makeBatch(0))
      const { optimizers, values } = trainer.saveState()
      await session.release()
      const ofInputs = new Map(
        Array.from(values.keys(), (input, i) => [input, optimizers[0]?.vectors[i]?.first ?? []]),
      )
      const whole = decodeArray(gradient).data as Float32Array
      const n = whole.length / modules.length
      let [error, norm] = [0, 0]
      for (const [m, module] of modules.entries()) {
        const [input = ''] = [...ofInputs.keys()].filter((name) => name.includes(module))
        const received = ofInputs.get(input) ?? []
        expect(received.length, module).toBe(n)
        for (let i = 0; i < n; i++) {
          const value = whole[m * n + i] as number
          error += ((received[i] as number) / SHARE - value) ** 2
          norm += value ** 2
        }
      }
      expect(Math.sqrt(error / norm)).toBeLessThan(tolerance)
      expect(Math.abs(report.loss / loss - 1)).toBeLessThan(tolerance)
    })
  })
})

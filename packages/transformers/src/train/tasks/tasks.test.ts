import { expect, test } from 'vitest'
import { taskOf } from './tasks.js'

test.each([
  ['text-classification', 'SEQ_CLS'],
  ['sentiment-analysis', 'SEQ_CLS'],
  ['ner', 'TOKEN_CLS'],
  ['feature-extraction', 'FEATURE_EXTRACTION'],
  ['text-generation', 'CAUSAL_LM'],
  ['translation', 'SEQ_2_SEQ_LM'],
  ['image-classification', null],
])('%s', (pipeline, taskType) => {
  expect(taskOf(pipeline).taskType).toBe(taskType)
})

test('other pipelines cannot be trained', () => {
  expect(() => taskOf('fill-mask')).toThrow(
    expect.objectContaining({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/^fill-mask: .*text-classification, .*image-classification$/),
    }),
  )
})

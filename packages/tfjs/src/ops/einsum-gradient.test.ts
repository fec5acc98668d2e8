/** The gradient that `tf.einsum` is given, against that of a plain sum over all labels. */
import * as tf from '@tensorflow/tfjs-core'
// The gradients of all other operators.
import '@tensorflow/tfjs-layers'
import { beforeAll, expect, it } from 'vitest'
import { useBackend } from '../__fixtures__/use-backend.js'
import { provideEinsumGradient } from './einsum-gradient.js'

const SIZES: Readonly<Record<string, number>> = { a: 2, b: 3, c: 4, d: 5, e: 2 }

beforeAll(async () => {
  await useBackend('cpu')
  provideEinsumGradient()
})

/** The operand with a dimension for each label of `all`, of size 1 where it has none. */
function spread(operand: tf.Tensor, labels: string, all: readonly string[]): tf.Tensor {
  const own = [...labels].sort((l, m) => all.indexOf(l) - all.indexOf(m))
  const sorted = tf.transpose(
    operand,
    own.map((label) => labels.indexOf(label)),
  )
  return tf.reshape(
    sorted,
    all.map((label) => (labels.includes(label) ? SIZES[label] : 1)),
  )
}

it.each([
  'ab,bc->ac',
  'abc,cde->abde',
  'abcd,cde->abe',
  // The two products of an attention.
  'aecd,abcd->acbe',
  'acbe,aecd->abcd',
  // Outputs in another order, an outer product, labels that one operand alone has, and one operand.
  'ab,cb->ca',
  'a,b->ab',
  'ab,a->a',
  'abc->cb',
  'ab->a',
])('%s', (equation) => {
  const [terms = '', output = ''] = equation.split('->')
  const labels = terms.split(',')
  const shape = (term: string) => [...term].map((label) => SIZES[label])
  tf.tidy(() => {
    const operands = labels.map((term, i) => tf.randomNormal(shape(term), 0, 1, 'float32', i + 1))
    const gradient = tf.randomNormal(shape(output), 0, 1, 'float32', 9)
    const all = [
      ...output,
      ...new Set([...terms].filter((label) => label !== ',' && !output.includes(label))),
    ]
    const plain = (...given: tf.Tensor[]) => {
      const product = given.map((each, i) => spread(each, labels[i], all)).reduce((a, b) => tf.mul(a, b))
      // All labels, though each operand may lack some.
      const full = tf.mul(product, tf.ones(all.map((label) => SIZES[label])))
      return tf.sum(
        full,
        all.map((_, axis) => axis).filter((axis) => axis >= output.length),
      )
    }
    const einsum = (...given: tf.Tensor[]) => tf.einsum(equation, ...given)
    const expected = tf.grads(plain)(operands, gradient)
    const actual = tf.grads(einsum)(operands, gradient)
    for (const [i, each] of actual.entries()) {
      const [got, wanted] = [each.dataSync(), expected[i].dataSync()]
      expect(each.shape).toEqual(operands[i]?.shape)
      const largest = Math.max(...wanted.map(Math.abs))
      for (const [j, value] of got.entries()) {
        // Sums of at most 5·4·3·2 = 120 products in float32, in another order.
        expect(Math.abs(value - wanted[j])).toBeLessThanOrEqual(120 * 2 ** -24 * largest)
      }
    }
  })
})

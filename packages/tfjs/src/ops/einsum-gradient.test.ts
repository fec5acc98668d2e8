/** Compares the registered gradient of `tf.einsum` with the gradient of a plain sum over all labels. */
import * as tf from '@tensorflow/tfjs-core'
// Registers the gradients of all other operators.
import '@tensorflow/tfjs-layers'
import { beforeAll, expect, it } from 'vitest'
import { useBackend } from '../__fixtures__/use-backend.js'
import { provideEinsumGradient } from './einsum-gradient.js'

const SIZES: Readonly<Record<string, number>> = { a: 2, b: 3, c: 4, d: 5, e: 2 }

beforeAll(async () => {
  await useBackend('cpu')
  provideEinsumGradient()
})

/** Transposes and reshapes the operand to one dimension for each label of `allLabels`, with size 1 for labels that it does not have. */
function withAllLabels(operand: tf.Tensor, labels: string, allLabels: readonly string[]): tf.Tensor {
  const ordered = [...labels].sort((l, m) => allLabels.indexOf(l) - allLabels.indexOf(m))
  const sorted = tf.transpose(
    operand,
    ordered.map((label) => labels.indexOf(label)),
  )
  return tf.reshape(
    sorted,
    allLabels.map((label) => (labels.includes(label) ? SIZES[label] : 1)),
  )
}

it.each([
  'ab,bc->ac',
  'abc,cde->abde',
  'abcd,cde->abe',
  // The two products of attention.
  'aecd,abcd->acbe',
  'acbe,aecd->abcd',
  // Outputs in another order, an outer product, labels of one operand only, and a single operand.
  'ab,cb->ca',
  'a,b->ab',
  'ab,a->a',
  'abc->cb',
  'ab->a',
])('computes the gradients of %s', (equation) => {
  const [terms = '', output = ''] = equation.split('->')
  const labels = terms.split(',')
  const shape = (term: string) => [...term].map((label) => SIZES[label])
  tf.tidy(() => {
    const operands = labels.map((term, i) => tf.randomNormal(shape(term), 0, 1, 'float32', i + 1))
    const gradient = tf.randomNormal(shape(output), 0, 1, 'float32', 9)
    const allLabels = [
      ...output,
      ...new Set([...terms].filter((label) => label !== ',' && !output.includes(label))),
    ]
    const plainSum = (...operands: tf.Tensor[]) => {
      const product = operands
        .map((operand, i) => withAllLabels(operand, labels[i], allLabels))
        .reduce((a, b) => tf.mul(a, b))
      // Repeats the product to the full size of every label.
      const full = tf.mul(product, tf.ones(allLabels.map((label) => SIZES[label])))
      return tf.sum(
        full,
        allLabels.map((_, axis) => axis).filter((axis) => axis >= output.length),
      )
    }
    const einsum = (...operands: tf.Tensor[]) => tf.einsum(equation, ...operands)
    const expected = tf.grads(plainSum)(operands, gradient)
    const actual = tf.grads(einsum)(operands, gradient)
    for (const [i, operandGradient] of actual.entries()) {
      const [values, expectedValues] = [operandGradient.dataSync(), expected[i].dataSync()]
      expect(operandGradient.shape).toEqual(operands[i]?.shape)
      const largest = Math.max(...expectedValues.map(Math.abs))
      for (const [j, value] of values.entries()) {
        // Sums of at most 5·4·3·2 = 120 products in float32, in another order.
        expect(Math.abs(value - expectedValues[j])).toBeLessThanOrEqual(120 * 2 ** -24 * largest)
      }
    }
  })
})

/** GELU in the forms that exporters write becomes one node with the same values and gradients. */
import { expect, test } from 'vitest'
import { createModel } from '../../model/create-model.js'
import type { NewNode } from '../../model/encode.js'
import { DataType } from '../../model/schema.js'
import { floats, gradientError, numbers } from '../__fixtures__/check-gradient.js'
import { foldGelu } from './fold-gelu.js'

const number = (name: string, value: number) => floats(name, { dims: [], data: [value] }, true)
const INITIALIZERS = [
  number('root', Math.SQRT2),
  number('inverse', Math.SQRT1_2),
  number('one', 1),
  number('half', 0.5),
  number('third', 0.3),
  number('three', 3),
  number('c', 0.044715),
  number('k', Math.sqrt(2 / Math.PI)),
]

const node = (opType: string, a: string, b: string, output: string): NewNode => ({
  name: `the ${opType} of ${output}`,
  opType,
  inputs: b === '' ? [a] : [a, b],
  outputs: [output],
})

const BEGIN = [
  node('Div', 'x', 'root', 'scaled'),
  node('Erf', 'scaled', '', 'erf'),
  node('Add', 'erf', 'one', 'sum'),
]
const FORMS: readonly (readonly [string, readonly NewNode[]])[] = [
  ['(x·sum)/2', [...BEGIN, node('Mul', 'x', 'sum', 'product'), node('Mul', 'product', 'half', 'y')]],
  ['x·(sum/2)', [...BEGIN, node('Mul', 'half', 'sum', 'product'), node('Mul', 'product', 'x', 'y')]],
  [
    '(x/2)·sum, with a product by 1/√2',
    [
      node('Mul', 'x', 'half', 'halved'),
      node('Mul', 'inverse', 'x', 'scaled'),
      ...BEGIN.slice(1, 2),
      node('Add', 'one', 'erf', 'sum'),
      node('Mul', 'halved', 'sum', 'y'),
    ],
  ],
]

const FROM_CUBE = [
  node('Mul', 'cube', 'c', 'term'),
  node('Add', 'x', 'term', 'inner'),
  node('Mul', 'k', 'inner', 'scaled'),
  node('Tanh', 'scaled', '', 'tanh'),
  node('Add', 'tanh', 'one', 'sum'),
  node('Mul', 'x', 'half', 'halved'),
  node('Mul', 'halved', 'sum', 'y'),
]
const TANH_FORMS: readonly (readonly [string, readonly NewNode[]])[] = [
  ['tanh, with x³ as a power', [node('Pow', 'x', 'three', 'cube'), ...FROM_CUBE]],
  [
    'tanh, with x³ as products',
    [node('Mul', 'x', 'x', 'square'), node('Mul', 'square', 'x', 'cube'), ...FROM_CUBE],
  ],
]

function foldedOperators(
  nodes: readonly NewNode[],
  { active = ['x', 'scaled'], outputs = ['y'] }: { active?: string[]; outputs?: string[] } = {},
): string[] {
  const model = createModel(
    {
      name: 'main',
      nodes,
      inputs: [{ name: 'x', dataType: DataType.float, dims: ['rows', 3] }],
      outputs: outputs.map((name) => ({ name })),
      initializers: INITIALIZERS,
    },
    { opset: 18 },
  )
  foldGelu(model, new Set(active))
  return model.graph.nodes.map(({ domain, opType }) => (domain === '' ? opType : `${domain}:${opType}`))
}

test.each(FORMS)('%s becomes one node', (_, nodes) => {
  expect(foldedOperators(nodes)).toEqual(['com.microsoft:Gelu'])
})

test.each(TANH_FORMS)('%s becomes one node', (_, nodes) => {
  expect(foldedOperators(nodes)).toEqual(['com.microsoft:FastGelu'])
})

test.each([...FORMS, ...TANH_FORMS])('the gradient of %s equals central differences', async (_, nodes) => {
  const inputs = { x: numbers([4, 3], 5) }
  expect(await gradientError({ nodes, inputs, initializers: INITIALIZERS, isFloat: true })).toBeLessThan(2e-3)
})

const [, [, nodes]] = FORMS
test.each<[string, readonly NewNode[], { active?: string[]; outputs?: string[] }]>([
  ['does not depend on the targets', nodes, { active: [] }],
  ['has an inner value that is an output', nodes, { outputs: ['y', 'erf'] }],
  ['has an inner value that another node reads', [...nodes, node('Neg', 'sum', '', 'z')], {}],
  ['has another power', [node('Pow', 'x', 'one', 'cube'), ...FROM_CUBE], {}],
  [
    'has other constants',
    nodes.map((one) => ({ ...one, inputs: one.inputs.map((name) => (name === 'half' ? 'third' : name)) })),
    {},
  ],
  [
    'multiplies another value',
    nodes.map((one) => (one.outputs[0] === 'y' ? { ...one, inputs: ['product', 'scaled'] } : one)),
    {},
  ],
])('a GELU stays as it is if it %s', (_, changed, options) => {
  expect(foldedOperators(changed, options)).toEqual(changed.map(({ opType }) => opType))
})

/**
 * The gradient of `tf.einsum`, which TensorFlow.js 4.22 lacks. Without it, no layer below an `EinsumDense` layer can be trained, and
 * neither can the query, key and value of an attention, whose scores are such products. The gradient is made of matrix products.
 * TensorFlow.js's own `einsum` cannot serve: it needs memory for all labels at once, and leaves out an operand that shares no summed
 * label with the others.
 */
import {
  broadcastTo,
  Einsum,
  type GradConfig,
  getGradient,
  matMul,
  registerGradient,
  reshape,
  scalar,
  sum,
  type Tensor,
  transpose,
} from '@tensorflow/tfjs-core'

/** Registers a gradient for `tf.einsum` if TensorFlow.js has none. It stays registered. */
export function provideEinsumGradient(): void {
  if (!getGradient(Einsum)) registerGradient(EINSUM_GRADIENT)
}

/** A tensor and a letter for each of its dimensions; no letter occurs twice. */
interface Labelled {
  readonly tensor: Tensor
  readonly labels: string
}

/** For `y = Σ a·b`: `∂L/∂a = Σ ∂L/∂y·b`, summed over the labels that `a` lacks and repeated along the labels that only `a` has. */
const EINSUM_GRADIENT: GradConfig = {
  kernelName: Einsum,
  saveAllInputs: true,
  gradFunc: (gradient, tensors, attributes) => {
    const [terms = '', output = ''] = String(attributes.equation).replace(/\s/g, '').split('->')
    const operands = terms.split(',').map((labels, i) => ({ tensor: tensors[i], labels }))
    const outputGradient = { tensor: gradient as Tensor, labels: output }
    const one = () => ({ tensor: scalar(1), labels: '' })
    const gradients = operands.map(
      (operand, i) => () => gradientOf(operand, outputGradient, operands[1 - i] ?? one()),
    )
    return Object.fromEntries(gradients.entries())
  },
}

function gradientOf({ tensor: { shape }, labels }: Labelled, gradient: Labelled, other: Labelled): Tensor {
  const factor = summedExcept(other, labels + gradient.labels)
  const computed = keep(labels, gradient.labels + factor.labels)
  const dims = [...labels].map((label, axis) => (computed.includes(label) ? shape[axis] : 1))
  return broadcastTo(reshape(contracted(gradient, factor, computed), dims), shape)
}

/** Summed over all labels except `wanted`. */
function summedExcept({ tensor, labels }: Labelled, wanted: string): Labelled {
  const axes = [...labels].flatMap((label, axis) => (wanted.includes(label) ? [] : [axis]))
  return { tensor: sum(tensor, axes), labels: keep(labels, wanted) }
}

/** `Σ a·b` over the labels that both have and `output` lacks, as one batch of matrix products. */
function contracted(a: Labelled, b: Labelled, output: string): Tensor {
  const common = keep(a.labels, b.labels)
  const batch = keep(common, output)
  const inner = without(common, output)
  const [rows, columns] = [without(a.labels, common), without(b.labels, common)]
  const product = matMul(arranged(a, [batch, rows, inner]), arranged(b, [batch, inner, columns]))
  const order = batch + rows + columns
  const sizes = new Map(
    [a, b].flatMap(({ tensor, labels }) => [...labels].map((l, i) => [l, tensor.shape[i]])),
  )
  const dims = [...order].map((label) => sizes.get(label) as number)
  return transpose(
    reshape(product, dims),
    [...output].map((label) => order.indexOf(label)),
  )
}

/** The tensor with one dimension for each group of labels. */
function arranged({ tensor, labels }: Labelled, groups: readonly string[]): Tensor {
  const size = (group: string) =>
    [...group].reduce((product, label) => product * tensor.shape[labels.indexOf(label)], 1)
  const order = [...groups.join('')].map((label) => labels.indexOf(label))
  return reshape(transpose(tensor, order), groups.map(size))
}

function keep(labels: string, wanted: string): string {
  return [...labels].filter((label) => wanted.includes(label)).join('')
}

function without(labels: string, unwanted: string): string {
  return [...labels].filter((label) => !unwanted.includes(label)).join('')
}

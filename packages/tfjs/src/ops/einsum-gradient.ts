/**
 * The gradient of `tf.einsum`, which TensorFlow.js 4.22 lacks. Without it, training cannot reach the layers before an `EinsumDense` layer,
 * nor the query, key and value layers of attention, which computes its scores with `einsum`. The gradient consists of matrix products.
 * TensorFlow.js's own `einsum` cannot be used for it, because it needs memory for all labels at once, and ignores an operand that shares no
 * summed label with the others.
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
  const factor = sumExcept(other, labels + gradient.labels)
  const sharedLabels = intersectLabels(labels, gradient.labels + factor.labels)
  const dims = [...labels].map((label, axis) => (sharedLabels.includes(label) ? shape[axis] : 1))
  return broadcastTo(reshape(contract(gradient, factor, sharedLabels), dims), shape)
}

/** Sums over all labels except `wanted`. */
function sumExcept({ tensor, labels }: Labelled, wanted: string): Labelled {
  const axes = [...labels].flatMap((label, axis) => (wanted.includes(label) ? [] : [axis]))
  return { tensor: sum(tensor, axes), labels: intersectLabels(labels, wanted) }
}

/** Computes `Σ a·b` over the labels that both have and `output` lacks, as one batch of matrix products. */
function contract(a: Labelled, b: Labelled, output: string): Tensor {
  const common = intersectLabels(a.labels, b.labels)
  const batch = intersectLabels(common, output)
  const inner = subtractLabels(common, output)
  const [rows, columns] = [subtractLabels(a.labels, common), subtractLabels(b.labels, common)]
  const product = matMul(groupDims(a, [batch, rows, inner]), groupDims(b, [batch, inner, columns]))
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

/** Transposes and reshapes the tensor to one dimension for each group of labels. */
function groupDims({ tensor, labels }: Labelled, groups: readonly string[]): Tensor {
  const size = (group: string) =>
    [...group].reduce((product, label) => product * tensor.shape[labels.indexOf(label)], 1)
  const order = [...groups.join('')].map((label) => labels.indexOf(label))
  return reshape(transpose(tensor, order), groups.map(size))
}

function intersectLabels(labels: string, wanted: string): string {
  return [...labels].filter((label) => wanted.includes(label)).join('')
}

function subtractLabels(labels: string, unwanted: string): string {
  return [...labels].filter((label) => !unwanted.includes(label)).join('')
}

/**
 * The two halves of the portable functions `FourierFT` and `FourierFTGrad`. Analysis turns activations into the frequencies that entries use;
 * synthesis multiplies them by the coefficients and turns the products into activations. Sizes are computed from the tables, which are
 * constants, so runtimes compute them when they load the model.
 *
 * @see `groupedTransform` of `@fourierft/core` for the equations and the tables
 */
import type { NodeList } from '../../model/node-list.js'

/** The prefix of a direction's tables: `w1` for the adapter itself, `transposed_w1` for the transposed adapter. */
type Prefix = '' | 'transposed_'

/** Adds a check whether there are no adapters, or no tokens: tensors without elements cannot be reshaped with −1. */
export function addInactiveCheck({ add, constant }: NodeList, coefficients: string, x: string): string {
  const size = add('Mul', [add('Size', [coefficients]), add('Size', [x])])
  return add('Equal', [size, constant([0], [])])
}

/**
 * @param sizes receives the nodes that compute sizes
 * @returns a function that writes the nodes from activations `[..., d]` to `Z` `[G·2m, T]`
 */
export function analysisNodes(
  sizes: NodeList,
  prefix: Prefix,
): (body: NodeList, activations: string) => string {
  const [w1, m2] = [`${prefix}w1`, `${prefix}m2`]
  const outer = sizes.sizeOf(w1, 1)
  const groups = sizes.sizeOf(m2, 0)
  const slots2 = sizes.sizeOf(m2, 1)
  const inner2 = sizes.sizeOf(m2, 2)
  const length = sizes.add('Mul', [outer, sizes.add('Div', [inner2, sizes.constant([2])])])
  const rows = sizes.add('Mul', [groups, slots2])
  const rest = sizes.constant([-1])

  return ({ add, reshape }, activations) => {
    const tokensLast = add('Transpose', [reshape(activations, [rest, length])], SWAP)
    const groupSpectra = add('MatMul', [w1, reshape(tokensLast, [outer, rest])])
    const spectrum = add('MatMul', [m2, reshape(groupSpectra, [groups, inner2, rest])])
    return reshape(spectrum, [rows, rest])
  }
}

/**
 * @param sizes receives the nodes that compute sizes
 * @returns a function that writes the nodes from the rows of `Z` that the table `gather` names, `[P, T]`, to activations `[T, d]`.
 *   Number r of `rows` `[R]` is the row of `coefficients` for the r-th of R equal parts of the tokens
 */
export function synthesisNodes(
  sizes: NodeList,
  prefix: Prefix,
): (body: NodeList, gathered: string, coefficients: string, rows: string) => string {
  const [n1, w1i] = [`${prefix}n1`, `${prefix}w1i`]
  const groups = sizes.sizeOf(n1, 0)
  const inner2 = sizes.sizeOf(n1, 1)
  const slots2 = sizes.sizeOf(n1, 2)
  const two = sizes.constant([2])
  const length = sizes.add('Mul', [sizes.sizeOf(w1i, 0), sizes.add('Div', [inner2, two])])
  const groups2 = sizes.add('Mul', [groups, two])
  const rowCount = sizes.add('Shape', [`${prefix}gather`])
  const one = sizes.constant([1])
  const rest = sizes.constant([-1])

  return ({ add, reshape }, gathered, coefficients, rows) => {
    // [P, R]: the coefficient of each row of the products in each of the R adapters.
    const chosen = add('Transpose', [add('Gather', [coefficients, rows])], SWAP)
    const weights = add('Mul', [add('Gather', [chosen, `${prefix}coefficient`]), `${prefix}factors`])
    const parts = add('Shape', [rows])
    const products = add('Mul', [
      reshape(gathered, [rowCount, parts, rest]),
      reshape(weights, [rowCount, parts, one]),
    ])
    const columns = add('MatMul', [n1, reshape(products, [groups, slots2, rest])])
    const tokensLast = add('MatMul', [w1i, reshape(columns, [groups2, rest])])
    return add('Transpose', [reshape(tokensLast, [length, rest])], SWAP)
  }
}

const SWAP = { perm: { ints: [1, 0] } }

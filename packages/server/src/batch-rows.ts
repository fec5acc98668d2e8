/**
 * Rows of a joined output that are cut out only when their numbers are read. The cache of a decoder goes through a call unread: if the next batch has the same
 * rows, the joined tensor is its input as it is, and nothing is copied.
 */
import type { Tensor } from 'onnxruntime-common'
import { type Block, cut, sizeOf, type TensorData } from './tensor-blocks.js'

interface Origin {
  readonly joined: Tensor
  readonly block: Block
}

const origins = new WeakMap<Tensor, Origin>()

/** Returns a tensor with the numbers of a block of a joined output. It is a tensor of the same class. */
export function rowsOfBatch(joined: Tensor, block: Block): Tensor {
  let data: TensorData | undefined
  const read = () => {
    data ??= cut(joined.data as unknown as TensorData, joined.dims, block)
    return data
  }
  const rows: Tensor = Object.create(Object.getPrototypeOf(joined), {
    type: { value: joined.type, enumerable: true },
    dims: { value: block.sizes, enumerable: true },
    size: { value: sizeOf(block.sizes), enumerable: true },
    location: { value: 'cpu' },
    data: { get: read },
    getData: { value: async () => read() },
    dispose: { value: () => undefined },
  })
  origins.set(rows, { joined, block })
  return rows
}

/** Returns the joined output if these tensors are all of its rows, in their order; otherwise undefined. */
export function wholeBatch(tensors: readonly Tensor[]): Tensor | undefined {
  const joined = origins.get(tensors[0] as Tensor)?.joined
  if (joined === undefined) return undefined
  let row = 0
  for (const tensor of tensors) {
    const origin = origins.get(tensor)
    if (origin?.joined !== joined || origin.block.starts[0] !== row) return undefined
    row += origin.block.sizes[0] as number
  }
  return row === joined.dims[0] ? joined : undefined
}

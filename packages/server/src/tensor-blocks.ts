/** Copies blocks of row-major tensors: `cut` takes a block out, `paste` puts one in. */

/** The data of a tensor: a typed array, or the strings of a string tensor. */
export type TensorData = ArrayLike<unknown> & {
  slice(start: number, end: number): TensorData
}

/** A block: along each axis where it starts and how long it is. */
export interface Block {
  readonly starts: readonly number[]
  readonly sizes: readonly number[]
}

export function sizeOf(dims: readonly number[]): number {
  return dims.reduce((product, size) => product * size, 1)
}

/** Returns a copy of a block of a tensor. */
export function cut(data: TensorData, dims: readonly number[], { starts, sizes }: Block): TensorData {
  const first = dims.findLastIndex((size, axis) => sizes[axis] !== size)
  // Along axes after the last one that is cut, the block is contiguous.
  if (first <= 0) {
    const inner = sizeOf(dims.slice(1))
    const start = (starts[0] ?? 0) * inner
    return data.slice(start, start + sizeOf(sizes))
  }
  const result = emptyLike(data, sizeOf(sizes))
  eachRun(dims, { starts, sizes }, (offset, end, length) => {
    copy(result, end, data, offset, length)
  })
  return result
}

/** Copies a whole tensor into a block of another one, which has the shape `dims`. */
export function paste(target: TensorData, dims: readonly number[], block: Block, source: TensorData): void {
  eachRun(dims, block, (offset, start, length) => {
    copy(target, offset, source, start, length)
  })
}

/** Returns zeros (strings: empty) of the same kind. */
export function emptyLike(data: TensorData, length: number): TensorData {
  if (Array.isArray(data)) return new Array<string>(length).fill('')
  const TypedArray = data.constructor as new (length: number) => TensorData
  return new TypedArray(length)
}

/** Calls `work` for each contiguous run of a block: its offset in the tensor, its offset in the block, and its length. */
function eachRun(
  dims: readonly number[],
  { starts, sizes }: Block,
  work: (offset: number, start: number, length: number) => void,
): void {
  if (sizeOf(sizes) === 0) return
  const lastCut = Math.max(
    0,
    dims.findLastIndex((size, axis) => sizes[axis] !== size),
  )
  const inner = sizeOf(dims.slice(lastCut + 1))
  const length = (sizes[lastCut] ?? 1) * inner
  const runs = sizeOf(sizes.slice(0, lastCut))
  for (let run = 0; run < runs; run++) {
    let offset = 0
    let stride = inner * (dims[lastCut] ?? 1)
    let rest = run
    for (let axis = lastCut - 1; axis >= 0; axis--) {
      const size = sizes[axis] as number
      offset += ((starts[axis] as number) + (rest % size)) * stride
      rest = Math.floor(rest / size)
      stride *= dims[axis] as number
    }
    work(offset + (starts[lastCut] ?? 0) * inner, run * length, length)
  }
}

function copy(target: TensorData, offset: number, source: TensorData, start: number, length: number): void {
  if (ArrayBuffer.isView(target) && ArrayBuffer.isView(source)) {
    const to = target as unknown as { set(values: ArrayLike<unknown>, offset: number): void }
    const from = source as unknown as { subarray(start: number, end: number): ArrayLike<unknown> }
    to.set(from.subarray(start, start + length), offset)
    return
  }
  const to = target as unknown as unknown[]
  for (let i = 0; i < length; i++) to[offset + i] = source[start + i]
}

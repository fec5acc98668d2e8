/**
 * Dense matrix products, accumulated in float64, for the frozen layer and the strategy `dense`. Both factors are packed tile by tile into
 * `Float64Array`s with rows along the inner dimension, so that one monomorphic kernel serves every orientation.
 */
import type { FloatArray } from '../adapter/layer.js'
import { cachedPlan } from './plan-cache.js'

/** A matrix in an array: element `(i, j)` is `data[i·rowStride + j·columnStride]`. */
export interface MatrixView {
  readonly data: FloatArray
  readonly rowStride: number
  readonly columnStride: number
}

/** Rows and columns of a tile of the result. With DEPTH, both packed factors fit into a second-level cache. */
const TILE = 64
const DEPTH = 256

interface Tiles {
  readonly left: Float64Array
  readonly right: Float64Array
  readonly sums: Float64Array
}

/** Adds `a·b` to `c`, with `a` `[m, k]`, `b` `[k, n]` and `c` `[m, n]` row-major; each element of `c` is rounded once. */
export function addProduct(
  m: number,
  n: number,
  k: number,
  a: MatrixView,
  b: MatrixView,
  c: FloatArray,
): void {
  const { left, right, sums } = cachedPlan<Tiles>('product-tiles', () => ({
    left: new Float64Array(TILE * DEPTH),
    right: new Float64Array(TILE * DEPTH),
    sums: new Float64Array(TILE * TILE),
  }))
  for (let j0 = 0; j0 < n; j0 += TILE) {
    const columns = Math.min(TILE, n - j0)
    for (let i0 = 0; i0 < m; i0 += TILE) {
      const rows = Math.min(TILE, m - i0)
      sums.fill(0)
      for (let k0 = 0; k0 < k; k0 += DEPTH) {
        const depth = Math.min(DEPTH, k - k0)
        pack(a.data, i0 * a.rowStride + k0 * a.columnStride, a.rowStride, a.columnStride, rows, depth, left)
        pack(
          b.data,
          j0 * b.columnStride + k0 * b.rowStride,
          b.columnStride,
          b.rowStride,
          columns,
          depth,
          right,
        )
        multiplyTile(left, right, sums, rows, columns, depth)
      }
      for (let i = 0; i < rows; i++) {
        const row = (i0 + i) * n + j0
        for (let j = 0; j < columns; j++) c[row + j] += sums[i * TILE + j]
      }
    }
  }
}

/** Copies `lines` lines of `depth` numbers to rows of length DEPTH, and fills up to the next multiple of four lines with zeros. */
function pack(
  data: FloatArray,
  offset: number,
  lineStride: number,
  depthStride: number,
  lines: number,
  depth: number,
  tile: Float64Array,
): void {
  for (let line = 0; line < lines; line++) {
    let source = offset + line * lineStride
    const target = line * DEPTH
    for (let d = 0; d < depth; d++, source += depthStride) tile[target + d] = data[source]
  }
  for (let line = lines; line % 4 !== 0; line++) tile.fill(0, line * DEPTH, line * DEPTH + depth)
}

/** Adds `left·rightᵀ` to `sums`, in blocks of four rows by four columns; the last rows one by one. */
function multiplyTile(
  left: Float64Array,
  right: Float64Array,
  sums: Float64Array,
  rows: number,
  columns: number,
  depth: number,
): void {
  let i = 0
  for (; i + 4 <= rows; i += 4) {
    for (let j = 0; j < columns; j += 4)
      multiplyFourByFour(left, i * DEPTH, right, j * DEPTH, sums, i * TILE + j, depth)
  }
  for (; i < rows; i++) {
    for (let j = 0; j < columns; j += 4)
      multiplyOneByFour(left, i * DEPTH, right, j * DEPTH, sums, i * TILE + j, depth)
  }
}

function multiplyFourByFour(
  left: Float64Array,
  leftOffset: number,
  right: Float64Array,
  rightOffset: number,
  sums: Float64Array,
  offset: number,
  depth: number,
): void {
  let s00 = 0
  let s01 = 0
  let s02 = 0
  let s03 = 0
  let s10 = 0
  let s11 = 0
  let s12 = 0
  let s13 = 0
  let s20 = 0
  let s21 = 0
  let s22 = 0
  let s23 = 0
  let s30 = 0
  let s31 = 0
  let s32 = 0
  let s33 = 0
  for (let d = 0; d < depth; d++) {
    const l = leftOffset + d
    const r = rightOffset + d
    const b0 = right[r]
    const b1 = right[r + DEPTH]
    const b2 = right[r + 2 * DEPTH]
    const b3 = right[r + 3 * DEPTH]
    const a0 = left[l]
    s00 += a0 * b0
    s01 += a0 * b1
    s02 += a0 * b2
    s03 += a0 * b3
    const a1 = left[l + DEPTH]
    s10 += a1 * b0
    s11 += a1 * b1
    s12 += a1 * b2
    s13 += a1 * b3
    const a2 = left[l + 2 * DEPTH]
    s20 += a2 * b0
    s21 += a2 * b1
    s22 += a2 * b2
    s23 += a2 * b3
    const a3 = left[l + 3 * DEPTH]
    s30 += a3 * b0
    s31 += a3 * b1
    s32 += a3 * b2
    s33 += a3 * b3
  }
  sums[offset] += s00
  sums[offset + 1] += s01
  sums[offset + 2] += s02
  sums[offset + 3] += s03
  sums[offset + TILE] += s10
  sums[offset + TILE + 1] += s11
  sums[offset + TILE + 2] += s12
  sums[offset + TILE + 3] += s13
  sums[offset + 2 * TILE] += s20
  sums[offset + 2 * TILE + 1] += s21
  sums[offset + 2 * TILE + 2] += s22
  sums[offset + 2 * TILE + 3] += s23
  sums[offset + 3 * TILE] += s30
  sums[offset + 3 * TILE + 1] += s31
  sums[offset + 3 * TILE + 2] += s32
  sums[offset + 3 * TILE + 3] += s33
}

function multiplyOneByFour(
  left: Float64Array,
  leftOffset: number,
  right: Float64Array,
  rightOffset: number,
  sums: Float64Array,
  offset: number,
  depth: number,
): void {
  let s0 = 0
  let s1 = 0
  let s2 = 0
  let s3 = 0
  for (let d = 0; d < depth; d++) {
    const r = rightOffset + d
    const a = left[leftOffset + d]
    s0 += a * right[r]
    s1 += a * right[r + DEPTH]
    s2 += a * right[r + 2 * DEPTH]
    s3 += a * right[r + 3 * DEPTH]
  }
  sums[offset] += s0
  sums[offset + 1] += s1
  sums[offset + 2] += s2
  sums[offset + 3] += s3
}

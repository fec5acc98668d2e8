/** Transposes matrices: PyTorch's weights are `[out, in]`, those of graphs `[in, out]`. */

/** Returns the matrix `[rows, columns]` as `[columns, rows]`, in `result`. */
export function transpose(
  matrix: ArrayLike<number>,
  rows: number,
  columns: number,
  result = new Float32Array(rows * columns),
): Float32Array {
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) result[j * rows + i] = matrix[i * columns + j]
  return result
}

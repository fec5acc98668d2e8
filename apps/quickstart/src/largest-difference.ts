/** Returns the largest difference between numbers at the same index. It is NaN, and so within no limit, if either list contains NaN. */
export const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let largest = 0
  for (let i = 0; i < a.length; i++)
    largest = Math.max(largest, Math.abs((a[i] ?? Number.NaN) - (b[i] ?? Number.NaN)))
  return largest
}

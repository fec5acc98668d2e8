/** Suggests names in error messages: the existing names that are most similar to the names that the user wrote. */

/** Only the ends of longer strings are compared, because they distinguish modules. */
const MAX_COMPARED = 60
/** Only the end of a longer name is read, because an untrusted name may have millions of characters. */
const MAX_NAME = 1000

/**
 * Returns up to `count` of `names`, the nearest first. The distance is the edit distance between a wanted name and the ending of a name with
 * the same number of parts. Each ending occurs once, because a model has many layers of one kind.
 */
export function nearestNames(wanted: readonly string[], names: readonly string[], count = 5): string[] {
  const best = new Map<string, { name: string; distance: number }>()
  for (const wantedName of wanted.slice(0, 20)) {
    const target = wantedName.slice(-MAX_NAME)
    const parts = target.split('.').length
    for (const name of names.slice(0, 2000)) {
      const ending = name.slice(-MAX_NAME).split('.').slice(-parts).join('.')
      const distance = editDistance(target.slice(-MAX_COMPARED), ending.slice(-MAX_COMPARED))
      const previous = best.get(ending)
      if (!previous || distance < previous.distance)
        best.set(ending, { name: previous?.name ?? name, distance })
    }
  }
  if (wanted.length === 0) return names.slice(0, count)
  return [...best.values()]
    .sort((a, b) => a.distance - b.distance)
    .slice(0, count)
    .map(({ name }) => name)
}

/** Computes the Levenshtein distance, one row of the table at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}

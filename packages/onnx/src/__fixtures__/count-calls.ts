/** Counts the steps of an algorithm, so that a test of its complexity does not depend on how busy the machine is. */

/** A method or getter of a prototype; a generator counts each value that it yields. */
export type Counted = readonly [prototype: object, name: string]

/** Counts how often `run` calls the methods and getters. */
export function countCalls(counted: readonly Counted[], run: () => void): number {
  let calls = 0
  const restoreAll = counted.map(([prototype, name]) => wrap(prototype, name, () => calls++))
  try {
    run()
  } finally {
    for (const restore of restoreAll) restore()
  }
  return calls
}

/** Returns the largest number of pieces into which `run` splits a string. */
export function largestSplit(run: () => void): number {
  let largest = 0
  const restore = wrap(String.prototype, 'split', (pieces) => {
    if (Array.isArray(pieces)) largest = Math.max(largest, pieces.length)
  })
  try {
    run()
  } finally {
    restore()
  }
  return largest
}

/** Reports each result of a method or getter. Returns a function that restores the original. */
function wrap(prototype: object, name: string, report: (result: unknown) => void): () => void {
  const original = Object.getOwnPropertyDescriptor(prototype, name)
  const call = original?.get ?? original?.value
  if (!original || typeof call !== 'function') throw new Error(`there is no method or getter ${name}`)
  function wrapped(this: unknown, ...args: unknown[]): unknown {
    const result: unknown = Reflect.apply(call, this, args)
    if (isGenerator(result)) return reported(result, report)
    report(result)
    return result
  }
  Object.defineProperty(prototype, name, { ...original, [original.get ? 'get' : 'value']: wrapped })
  return () => Object.defineProperty(prototype, name, original)
}

function isGenerator(value: unknown): value is Generator<unknown> {
  return Object.prototype.toString.call(value) === '[object Generator]'
}

function* reported(values: Generator<unknown>, report: (value: unknown) => void): Generator<unknown> {
  for (const value of values) {
    report(value)
    yield value
  }
}

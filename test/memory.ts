/** Memory as the program uses it, which does not depend on the machine. The memory of the process does. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { onTestFinished } from 'vitest'

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

/** Returns the bytes of live objects and of their buffers, as V8 counts them. */
export function liveBytes(): number {
  for (let i = 0; i < 3; i++) collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/**
 * Records the constructors of array buffers and typed arrays until the end of the test, even those that fail.
 *
 * @returns a function that returns the largest size so far, in bytes
 */
export function recordLargestBuffer(): () => number {
  let largest = 0
  for (const type of [
    ArrayBuffer,
    Int8Array,
    Uint8Array,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    Float32Array,
    Float64Array,
    BigInt64Array,
    BigUint64Array,
  ]) {
    const recorded: unknown = new Proxy(type, {
      construct(target, args, newTarget) {
        if (typeof args[0] === 'number')
          largest = Math.max(largest, args[0] * ('BYTES_PER_ELEMENT' in type ? type.BYTES_PER_ELEMENT : 1))
        return Reflect.construct(target, args, newTarget === recorded ? target : newTarget)
      },
    })
    Reflect.set(globalThis, type.name, recorded)
    onTestFinished(() => {
      Reflect.set(globalThis, type.name, type)
    })
  }
  return () => largest
}

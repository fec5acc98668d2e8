/** Own properties laid over an object for a time, and taken away again without a trace. */

/** Defines `target[key]` as `value`; the function that comes back restores what was there before. */
export function override<T extends object, K extends keyof T>(target: T, key: K, value: T[K]): () => void {
  const before = Object.getOwnPropertyDescriptor(target, key)
  Object.defineProperty(target, key, { value, configurable: true, enumerable: false, writable: true })
  return () => {
    if (before === undefined) Reflect.deleteProperty(target, key)
    else Object.defineProperty(target, key, before)
  }
}

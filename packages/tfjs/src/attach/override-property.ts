/** Temporarily overrides properties of an object. */

/** Defines `target[key]` as `value`. Returns a function that restores the previous property. */
export function overrideProperty<T extends object, K extends keyof T>(
  target: T,
  key: K,
  value: T[K],
): () => void {
  const before = Object.getOwnPropertyDescriptor(target, key)
  Object.defineProperty(target, key, { value, configurable: true, enumerable: false, writable: true })
  return createRestore(target, key, before)
}

/**
 * Intercepts writes to an accessor that a class defines.
 *
 * @param write receives the new value, and a function that sets a value
 */
export function overrideAccessor<T extends object, K extends keyof T>(
  target: T,
  key: K,
  write: (value: T[K], set: (value: T[K]) => void) => void,
): () => void {
  const before = Object.getOwnPropertyDescriptor(target, key)
  let owner: object | null = target
  let accessor = before
  while (owner !== null && accessor === undefined) {
    owner = Object.getPrototypeOf(owner)
    accessor = owner === null ? undefined : Object.getOwnPropertyDescriptor(owner, key)
  }
  const { get, set } = accessor ?? {}
  Object.defineProperty(target, key, {
    configurable: true,
    enumerable: false,
    get: () => get?.call(target),
    set: (value: T[K]) => write(value, (allowed) => set?.call(target, allowed)),
  })
  return createRestore(target, key, before)
}

function createRestore(target: object, key: PropertyKey, before: PropertyDescriptor | undefined): () => void {
  return () => {
    if (before === undefined) Reflect.deleteProperty(target, key)
    else Object.defineProperty(target, key, before)
  }
}

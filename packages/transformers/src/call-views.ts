/**
 * A call uses a view of the model: an object that inherits everything from the model except its sessions. So `generate` uses the same adapters in
 * all of its steps, even if others are activated during the call. This needs no `AsyncLocalStorage`, which browsers do not have.
 */
import { callNames } from './library.js'

/** Models and pipelines are functions with methods. */
type Callable = object & { _call(...args: unknown[]): unknown }

type Method = (...args: unknown[]) => Promise<unknown>

/** Creates an object that is callable like `target` and inherits everything from it except `overrides`. */
export function viewOf<T extends object>(target: T, overrides: Partial<T>): T {
  const view = (...args: unknown[]) => (view as unknown as Callable)._call(...args)
  return Object.assign(Object.setPrototypeOf(view, target), overrides)
}

/**
 * Passes the calls of `target` to `begin`, which runs them on a view. A call of a view is part of such a call, so it runs directly.
 *
 * @returns a function that restores the methods of `target`
 */
export function overrideCalls<T extends object>(
  target: T,
  begin: (call: (view: T) => Promise<unknown>) => Promise<unknown>,
): () => void {
  const restores = callNames(target).map((name) => {
    const original = Object.getOwnPropertyDescriptor(target, name)
    const method = (target as Record<string, unknown>)[name] as Method
    Object.defineProperty(target, name, {
      configurable: true,
      writable: true,
      value(this: unknown, ...args: unknown[]) {
        return this === target
          ? begin((view) => Reflect.apply(method, view, args))
          : Reflect.apply(method, this, args)
      },
    })
    return () =>
      original ? Object.defineProperty(target, name, original) : Reflect.deleteProperty(target, name)
  })
  return () => {
    for (const restore of restores) restore()
  }
}

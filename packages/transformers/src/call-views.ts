/**
 * A call sees the model through a view: the model itself with the call's own sessions in place of the model's. So a `generate` keeps its adapters through
 * all of its steps, whatever is set in the meantime, and needs no store that follows asynchronous calls, which browsers do not have.
 */
import { callNames } from './library.js'

/** Models and pipelines are functions with methods. */
type Callable = object & { _call(...args: unknown[]): unknown }

type Method = (...args: unknown[]) => Promise<unknown>

/** An object that differs from `target` in `own` alone, callable as that is. */
export function viewOf<T extends object>(target: T, own: Partial<T>): T {
  const view = (...args: unknown[]) => (view as unknown as Callable)._call(...args)
  return Object.assign(Object.setPrototypeOf(view, target), own)
}

/**
 * Leads the calls of `target` through `begin`. Calls that a view makes are part of a call already and are let through.
 *
 * @returns what gives `target` its own methods back
 */
export function overrideCalls<T extends object>(
  target: T,
  begin: (call: (view: T) => Promise<unknown>) => Promise<unknown>,
): () => void {
  const restore = callNames(target).map((name) => {
    const own = Object.getOwnPropertyDescriptor(target, name)
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
    return () => (own ? Object.defineProperty(target, name, own) : Reflect.deleteProperty(target, name))
  })
  return () => {
    for (const each of restore) each()
  }
}

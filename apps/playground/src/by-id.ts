/** A part of the page by its id, with its type. @throws if the page has none */
export function byId<T extends Element>(id: string, type: new () => T): T {
  const found = document.getElementById(id)
  if (!(found instanceof type)) throw new Error(`${document.title}: there is no ${type.name} #${id}`)
  return found
}

/** Returns the element of the page with this id and type. @throws if the page has no such element */
export function byId<T extends Element>(id: string, type: new () => T): T {
  const found = document.getElementById(id)
  if (!(found instanceof type)) throw new Error(`${document.title}: there is no ${type.name} #${id}`)
  return found
}

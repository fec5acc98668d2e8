/** The functions that differ between Node and browsers. */
export interface Platform {
  /** @param url a `file:` URL */
  readFile(url: URL): Promise<Uint8Array>
}

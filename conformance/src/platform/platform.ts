/** The functions that differ between Node and browsers. */
export interface Platform {
  /** Reads a whole file. @param url a `file:` URL */
  readFile(url: URL): Promise<Uint8Array>
}

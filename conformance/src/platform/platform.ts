/** What differs between Node and the browser: files. */
export interface Platform {
  /** @param url a `file:` URL */
  readFile(url: URL): Promise<Uint8Array>
}

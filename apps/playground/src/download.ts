/** Offers bytes as a file. */
export function download(name: string, bytes: Uint8Array): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(new Blob([Uint8Array.from(bytes)]))
  link.download = name
  link.click()
  // By then the browser has saved the bytes.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}

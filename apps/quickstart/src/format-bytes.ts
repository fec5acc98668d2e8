/** Formats sizes as `6.9 KB`; 1 KB is 1000 bytes. */
export const formatBytes = (bytes: number): string =>
  bytes < 1000 ? `${bytes} bytes` : `${(bytes / 1000).toFixed(bytes < 100_000 ? 1 : 0)} KB`

/** Finds an installed Chromium for the browser tests. It is never downloaded. */
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome']

/** Flags that run WebGL and WebGPU in software (SwiftShader), as root in a container, without background network requests. */
export const CHROMIUM_FLAGS = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--enable-unsafe-swiftshader',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
  '--disable-quic',
]

/**
 * Returns the program in `FOURIERFT_CHROMIUM`, or the first on PATH with one of the usual names; undefined if Chromium is not installed.
 *
 * @throws if the variable names a file that does not exist
 */
export function findChromium(): string | undefined {
  const file = process.env.FOURIERFT_CHROMIUM
  if (file) {
    if (!existsSync(file)) throw new Error(`FOURIERFT_CHROMIUM: the file ${file} does not exist`)
    return file
  }
  const folders = (process.env.PATH ?? '').split(delimiter)
  return NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find((file) => existsSync(file))
}

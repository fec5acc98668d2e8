/** Where this machine has a Chromium for the browser tests; none is ever downloaded. */
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome']

/** What runs WebGL and WebGPU without a GPU (SwiftShader), as root in a container, and calls nobody. */
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
 * The program in `FOURIERFT_CHROMIUM`, or the first on PATH by one of the usual names; undefined if Chromium is not installed.
 *
 * @throws where the variable names a file that is not there
 */
export function findChromium(): string | undefined {
  const named = process.env.FOURIERFT_CHROMIUM
  if (named) {
    if (!existsSync(named)) throw new Error(`FOURIERFT_CHROMIUM: there is no file ${named}`)
    return named
  }
  const folders = (process.env.PATH ?? '').split(delimiter)
  return NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find((file) => existsSync(file))
}

// After installation: nothing where a compiled package fits this machine (or inside the workspace, which has its own build step),
// otherwise an attempt to compile. Never fails an installation.

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { buildAddon } from './build.js'

const require = createRequire(import.meta.url)

if (!existsSync(fileURLToPath(new URL('../platforms', import.meta.url))) && !compiledPackage()) {
  const problem = buildAddon()
  if (problem) console.error(`@fourierft/native works without its kernel: ${problem}`)
}

function compiledPackage() {
  try {
    return require.resolve(`@fourierft/native-${process.platform}-${process.arch}`)
  } catch {
    return undefined
  }
}

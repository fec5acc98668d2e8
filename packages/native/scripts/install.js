// Runs after installation. Tries to compile the addon if no compiled package loads on this machine, except inside the workspace, which has its
// own build step. It never fails an installation.

import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

if (!existsSync(fileURLToPath(new URL('../platforms', import.meta.url)))) {
  const { loadAddon } = await import('../dist/addon.js')
  if ('problem' in loadAddon()) {
    const { buildAddon } = await import('./build.js')
    const problem = buildAddon()
    if (problem) console.error(`@fourierft/native works without its kernel: ${problem}`)
  }
}

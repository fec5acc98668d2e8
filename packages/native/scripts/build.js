// Compiles the addon with CMake. Run by the root commands, and by `install.js` on machines for which there is no compiled package.
// A missing compiler is no failure: the packages that use the kernel work without it, and one line says so.

import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { include_dir as headers } from 'node-api-headers'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Where `js/addon.ts` looks for the addon besides the compiled packages. */
export const addonFile = join(root, 'build', 'fourierft.node')

/** Builds the addon; returns undefined, or in one line why it could not be built. */
export function buildAddon() {
  if (process.platform === 'win32')
    return 'on Windows only the compiled package serves (@fourierft/native-win32-x64)'
  const build = join(root, 'build')
  const steps = [
    ['-S', root, '-B', build, '-DCMAKE_BUILD_TYPE=Release', `-DNODE_API_INCLUDE=${headers}`],
    ['--build', build, '--parallel', '2'],
  ]
  for (const step of steps) {
    const { status, error, stdout, stderr } = spawnSync('cmake', step, { encoding: 'utf8' })
    if (error)
      return `CMake could not be started (${error.message}); install CMake and a C++17 compiler to have the native kernel`
    if (status !== 0)
      return `CMake failed: ${`${stderr}${stdout}`.trim().split('\n').slice(0, 20).join('\n')}`
  }
  return undefined
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const problem = buildAddon()
  if (problem) {
    console.error(`@fourierft/native was not compiled: ${problem}`)
  } else {
    const musl = process.platform === 'linux' && !process.report.getReport().header.glibcVersionRuntime
    const name = `${process.platform}-${process.arch}${musl ? '-musl' : ''}`
    const platform = join(root, 'platforms', name, 'fourierft.node')
    if (existsSync(dirname(platform))) copyFileSync(addonFile, platform)
  }
}

// Compiles the addon with CMake. Run by the root commands, and by `install.js` on machines for which there is no compiled package.
// A missing compiler is no failure: the packages that use the kernel work without it, and one line says so.
//
//   node scripts/build.js                the addon
//   node scripts/build.js --cuda         build/libfourierft-cuda.so alone, with nvcc; CUDAARCHS=90 for one architecture
//   node scripts/build.js --cuda-host    the addon, and the CUDA kernels' source for the CPU (Linux): tests

import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { include_dir as headers } from 'node-api-headers'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Where `js/addon.ts` looks for the addon besides the compiled packages. */
export const addonFile = join(root, 'build', 'fourierft.node')

/** Where `js/cuda-provider.ts` looks for the CUDA kernels, in the same folder. */
const CUDA_LIBRARY = 'libfourierft-cuda.so'

const isGlibc = process.platform === 'linux' && 'glibcVersionRuntime' in process.report.getReport().header

/** Builds the addon; returns undefined, or in one line why it could not be built. */
export function buildAddon({ cudaHost = false } = {}) {
  if (process.platform === 'win32')
    return 'on Windows only the compiled package serves (@fourierft/native-win32-x64)'
  // Its coroutines are glibc's.
  const host = cudaHost && isGlibc ? 'ON' : 'OFF'
  return cmake(join(root, 'build'), [`-DNODE_API_INCLUDE=${headers}`, `-DFOURIERFT_CUDA_HOST=${host}`])
}

/** Builds the library of the CUDA kernels beside the addon; the same. In a folder of its own: the addon is built without nvcc. */
function buildCuda() {
  if (process.platform !== 'linux') return 'the CUDA kernels are compiled on Linux only'
  const build = join(root, 'build', 'cuda-library')
  const { CUDAARCHS: wished } = process.env
  // CMake itself would go on with those of the first time.
  const architectures = wished ? `-DCMAKE_CUDA_ARCHITECTURES=${wished}` : '-UCMAKE_CUDA_ARCHITECTURES'
  const problem = cmake(build, ['-DFOURIERFT_CUDA=ON', architectures], ['--target', 'fourierft-cuda'])
  if (problem === undefined) install(join(build, CUDA_LIBRARY), join(root, 'build', CUDA_LIBRARY))
  return problem
}

/** A process that has the old library loaded keeps it: a file that is written over would change under it. */
function install(from, to) {
  copyFileSync(from, `${to}.new`)
  renameSync(`${to}.new`, to)
}

function cmake(build, definitions, target = []) {
  const steps = [
    ['-S', root, '-B', build, '-DCMAKE_BUILD_TYPE=Release', ...definitions],
    ['--build', build, '--parallel', '2', ...target],
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
  const flags = process.argv.slice(2)
  const unknown = flags.find((flag) => flag !== '--cuda' && flag !== '--cuda-host')
  const problem =
    unknown !== undefined
      ? `unknown option ${unknown}; there are --cuda and --cuda-host`
      : flags.includes('--cuda')
        ? buildCuda()
        : buildAddon({ cudaHost: flags.includes('--cuda-host') })
  if (problem) {
    console.error(`@fourierft/native was not compiled: ${problem}`)
    // Who asks for CUDA wants to know; without the rest all works.
    if (flags.length > 0) process.exitCode = 1
  } else if (!flags.includes('--cuda')) {
    const name = `${process.platform}-${process.arch}${process.platform === 'linux' && !isGlibc ? '-musl' : ''}`
    const platform = join(root, 'platforms', name, 'fourierft.node')
    if (existsSync(dirname(platform))) install(addonFile, platform)
  }
}

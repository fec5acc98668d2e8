// Compiles the addon with CMake. The root commands run it, and `install.js` on machines without a compiled package. A missing compiler is not a
// failure: a warning is printed, and the packages that use the kernel work without it.
//
//   node scripts/build.js                the addon
//   node scripts/build.js --cuda         only build/libfourierft-cuda.so, with nvcc; CUDAARCHS=90 for one architecture
//   node scripts/build.js --cuda-host    the addon, and for tests the CUDA kernels for the CPU (Linux)

import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { include_dir as headers } from 'node-api-headers'

const root = fileURLToPath(new URL('..', import.meta.url))

/** The path of the addon. `js/addon.ts` looks for it there if no compiled package loads. */
export const addonFile = join(root, 'build', 'fourierft.node')

/** The file name of the CUDA kernels. `js/cuda-provider.ts` looks for it in the same folder. */
const CUDA_LIBRARY = 'libfourierft-cuda.so'

const isGlibc = process.platform === 'linux' && 'glibcVersionRuntime' in process.report.getReport().header

/** Builds the addon. Returns undefined, or a description of the failure. */
export function buildAddon({ cudaHost = false } = {}) {
  if (process.platform === 'win32')
    return 'on Windows there is only the compiled package @fourierft/native-win32-x64'
  // The host shim uses the coroutines of glibc.
  const host = cudaHost && isGlibc ? 'ON' : 'OFF'
  return cmake(join(root, 'build'), [`-DNODE_API_INCLUDE=${headers}`, `-DFOURIERFT_CUDA_HOST=${host}`])
}

/**
 * Builds the library of the CUDA kernels, in a separate folder, because the addon is built without nvcc. Returns undefined, or a description of
 * the failure.
 */
function buildCuda() {
  if (process.platform !== 'linux') return 'the CUDA kernels are compiled on Linux only'
  const build = join(root, 'build', 'cuda-library')
  const { CUDAARCHS: architectures } = process.env
  // CMake itself would keep the architectures of the first build.
  const definition = architectures
    ? `-DCMAKE_CUDA_ARCHITECTURES=${architectures}`
    : '-UCMAKE_CUDA_ARCHITECTURES'
  const problem = cmake(build, ['-DFOURIERFT_CUDA=ON', definition], ['--target', 'fourierft-cuda'])
  if (problem === undefined) install(join(build, CUDA_LIBRARY), join(root, 'build', CUDA_LIBRARY))
  return problem
}

/** Replaces the file by a rename: a process that has the old library loaded keeps it unchanged. */
function install(source, target) {
  copyFileSync(source, `${target}.new`)
  renameSync(`${target}.new`, target)
}

function cmake(build, definitions, target = []) {
  const steps = [
    ['-S', root, '-B', build, '-DCMAKE_BUILD_TYPE=Release', ...definitions],
    ['--build', build, '--parallel', '2', ...target],
  ]
  for (const step of steps) {
    const { status, error, stdout, stderr } = spawnSync('cmake', step, { encoding: 'utf8' })
    if (error)
      return `CMake could not be started (${error.message}); install CMake and a C++17 compiler to build the native kernel`
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
      ? `option: expected --cuda or --cuda-host; received ${unknown}`
      : flags.includes('--cuda')
        ? buildCuda()
        : buildAddon({ cudaHost: flags.includes('--cuda-host') })
  if (problem) {
    console.error(`@fourierft/native was not compiled: ${problem}`)
    // Only an explicit request for CUDA fails; everything else works without the kernel.
    if (flags.length > 0) process.exitCode = 1
  } else if (!flags.includes('--cuda')) {
    const name = `${process.platform}-${process.arch}${process.platform === 'linux' && !isGlibc ? '-musl' : ''}`
    const platform = join(root, 'platforms', name, 'fourierft.node')
    if (existsSync(dirname(platform))) install(addonFile, platform)
  }
}

// Compiles the addon for every platform in `platforms/` on one machine (Linux or macOS) with zig, which brings the headers and libraries of all
// platforms. The oldest supported systems are set here and do not depend on the machine that compiles. This is for releases; `build.js` is for
// development.
//
//   node scripts/build-platforms.js [platform …]       ZIG: the command, default `zig` (or: python3 -m ziglang)

import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { include_dir as headers } from 'node-api-headers'

const root = fileURLToPath(new URL('..', import.meta.url))
const build = join(root, 'build', 'platforms')
const zig = process.env.ZIG ?? 'zig'

/** For each platform: zig's target with the oldest supported system, and CMake's names of the system and the processor. */
const targets = {
  'darwin-arm64': ['aarch64-macos.11.0', 'Darwin', 'arm64'],
  'darwin-x64': ['x86_64-macos.11.0', 'Darwin', 'x86_64'],
  'linux-arm64': ['aarch64-linux-gnu.2.28', 'Linux', 'aarch64'],
  'linux-arm64-musl': ['aarch64-linux-musl', 'Linux', 'aarch64'],
  'linux-x64': ['x86_64-linux-gnu.2.28', 'Linux', 'x86_64'],
  'linux-x64-musl': ['x86_64-linux-musl', 'Linux', 'x86_64'],
  'win32-x64': ['x86_64-windows-gnu', 'Windows', 'x86_64'],
}

const platforms = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(targets)
for (const platform of platforms) {
  if (!Object.hasOwn(targets, platform)) {
    fail(`platform: expected one of ${Object.keys(targets).join(', ')}; received ${JSON.stringify(platform)}`)
  }
}
const tools = makeTools()
for (const platform of platforms) compile(platform)

function compile(platform) {
  const [target, system, processor] = targets[platform]
  const folder = join(build, platform)
  rmSync(folder, { recursive: true, force: true })
  const options = {
    CMAKE_BUILD_TYPE: 'Release',
    CMAKE_SYSTEM_NAME: system,
    CMAKE_SYSTEM_PROCESSOR: processor,
    CMAKE_CXX_COMPILER: tools['c++'],
    CMAKE_CXX_COMPILER_TARGET: target,
    CMAKE_AR: tools.ar,
    CMAKE_RANLIB: tools.ranlib,
    CMAKE_DLLTOOL: tools.dlltool,
    CMAKE_MODULE_LINKER_FLAGS: '-s',
    CMAKE_SHARED_LINKER_FLAGS: '-s',
    NODE_API_INCLUDE: headers,
    FOURIERFT_TESTS: 'ON',
  }
  const definitions = Object.entries(options).map(([name, value]) => `-D${name}=${value}`)
  cmake(platform, ['-S', root, '-B', folder, ...definitions])
  cmake(platform, ['--build', folder, '--parallel', '2'])
  copyFileSync(join(folder, 'fourierft.node'), join(root, 'platforms', platform, 'fourierft.node'))
  console.log(
    `${platform}: platforms/${platform}/fourierft.node; its C++ tests: build/platforms/${platform}/fourierft-test`,
  )
}

/** Makes a script for each tool: CMake expects separate programs, but zig is one program for all tools. */
function makeTools() {
  if (process.platform === 'win32') fail('run this on Linux or macOS')
  const { status } = spawnSync(`${zig} version`, { shell: true, stdio: 'ignore' })
  if (status !== 0)
    fail(`${zig} could not be started: install zig, or set its command (ZIG="python3 -m ziglang")`)
  mkdirSync(build, { recursive: true })
  const names = ['c++', 'ar', 'ranlib', 'dlltool']
  return Object.fromEntries(
    names.map((name) => {
      const file = join(build, `zig-${name}`)
      writeFileSync(file, `#!/bin/sh\nexec ${zig} ${name} "$@"\n`)
      chmodSync(file, 0o755)
      return [name, file]
    }),
  )
}

function cmake(platform, args) {
  const { status, error, stdout, stderr } = spawnSync('cmake', args, { encoding: 'utf8' })
  if (status !== 0)
    fail(`${platform}: ${error?.message ?? `${stdout}${stderr}`.trim().split('\n').slice(-30).join('\n')}`)
}

function fail(problem) {
  console.error(`the platforms were not compiled: ${problem}`)
  process.exit(1)
}

// Checks a compiled package before it is packed: its addon must exist and be compiled for the platform in its package.json. This
// prevents publishing a package without an addon or with that of another platform.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const folder = process.cwd()
const { name, os, cpu, main } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
const file = join(folder, main)

if (!existsSync(file)) {
  fail(`${main} is missing; run \`node scripts/build-platforms.js\` in packages/native (it needs zig) first`)
}
const found = platformOf(readFileSync(file))
if (found !== `${os}-${cpu}`)
  fail(`${main}: expected an addon for ${os}-${cpu}; received one for ${found ?? 'an unknown platform'}`)

/** Returns `<process.platform>-<process.arch>` of a shared library, from its first bytes: ELF, Mach-O (64 bits) or PE. */
function platformOf(bytes) {
  if (bytes.length < 64) return undefined
  if (bytes.readUInt32BE(0) === 0x7f454c46) {
    return platformName('linux', { 62: 'x64', 183: 'arm64' }[bytes.readUInt16LE(18)])
  }
  if (bytes.readUInt32LE(0) === 0xfeedfacf) {
    return platformName('darwin', { 16777223: 'x64', 16777228: 'arm64' }[bytes.readUInt32LE(4)])
  }
  if (bytes.toString('latin1', 0, 2) === 'MZ') {
    const header = bytes.readUInt32LE(60)
    return platformName('win32', { 34404: 'x64', 43620: 'arm64' }[bytes.readUInt16LE(header + 4)])
  }
  return undefined
}

function platformName(platform, architecture) {
  return architecture && `${platform}-${architecture}`
}

function fail(problem) {
  console.error(`${name} is not packed: ${problem}`)
  process.exit(1)
}

/**
 * The kernel and the addon for Linux on arm64, with NEON, compiled by a cross compiler and run in an emulator. Node for arm64 (the program in
 * FOURIERFT_NODE_ARM64) loads the addon from its platform package, as it does for users of such machines.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { include_dir as headers } from 'node-api-headers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Compilers and emulators take long on a busy machine, so no hook or test here has a time limit. */
const NO_LIMIT = 0

const build = join(root, 'build', 'arm64')
const compiler = 'aarch64-linux-gnu-g++'
const emulator = ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu'] as const
const node = process.env.FOURIERFT_NODE_ARM64

const missing = ['cmake', compiler, emulator[0]].filter(
  (program) => spawnSync(program, ['--version']).status !== 0,
)
const reason = missing.length > 0 ? ` (skipped: ${missing.join(', ')} not installed)` : ''
const nodeReason = node ? '' : ' (skipped: FOURIERFT_NODE_ARM64 is not set to a Node for arm64)'

function run(command: string, args: readonly string[], cwd = root): string {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', cwd })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}\n${error?.message ?? ''}${stdout}${stderr}`)
  return stdout
}

describe.skipIf(missing.length > 0)(`linux-arm64 in an emulator${reason}`, () => {
  beforeAll(() => {
    const options = {
      CMAKE_BUILD_TYPE: 'Release',
      CMAKE_SYSTEM_NAME: 'Linux',
      CMAKE_SYSTEM_PROCESSOR: 'aarch64',
      CMAKE_CXX_COMPILER: compiler,
      NODE_API_INCLUDE: headers,
      FOURIERFT_TESTS: 'ON',
    }
    run('cmake', [
      '-S',
      root,
      '-B',
      build,
      ...Object.entries(options).map(([name, value]) => `-D${name}=${value}`),
    ])
    run('cmake', ['--build', build, '--parallel', '2'])
  }, NO_LIMIT)

  test(
    'passes the C++ tests with NEON',
    () => {
      const [command, ...options] = emulator
      const output = run(command, [...options, join(build, 'fourierft-test')])
      expect(output).toContain('instructions: neon')
      expect(output).toMatch(/checks, 0 failed/)
    },
    NO_LIMIT,
  )

  describe.skipIf(!node)(`the addon in Node${nodeReason}`, () => {
    const project = mkdtempSync(join(tmpdir(), 'fourierft-arm64-'))
    afterAll(() => rmSync(project, { recursive: true, force: true }))

    test(
      'is loaded from its package and passes the conformance suite',
      () => {
        const scope = join(project, 'node_modules', '@fourierft')
        const addon = join(scope, 'native-linux-arm64')
        mkdirSync(addon, { recursive: true })
        copyFileSync(join(root, 'platforms/linux-arm64/package.json'), join(addon, 'package.json'))
        copyFileSync(join(build, 'fourierft.node'), join(addon, 'fourierft.node'))
        mkdirSync(join(scope, 'native'))
        for (const part of ['package.json', 'dist'])
          cpSync(join(root, part), join(scope, 'native', part), { recursive: true })
        symlinkSync(join(root, '../core'), join(scope, 'core'))
        symlinkSync(join(root, '../../conformance'), join(scope, 'conformance'))
        writeFileSync(
          join(project, 'use.mjs'),
          `import { runConformance } from '@fourierft/conformance'
         import { coreBackend } from '@fourierft/core/conformance'
         import { kernel, kernelProblem } from '@fourierft/native'
         const native = kernel()
         if (!native) throw new Error(kernelProblem())
         const { levels } = await runConformance(coreBackend({ kernel: native }), { levels: [3, 6, 7, 8] })
         console.log(JSON.stringify({ machine: process.arch, instructions: native.instructions, levels }))`,
        )
        const [command, ...options] = emulator
        const found = JSON.parse(run(command, [...options, node ?? '', 'use.mjs'], project))
        expect(found).toMatchObject({ machine: 'arm64', instructions: 'neon' })
        const statuses = found.levels.map(({ status }: { status: string }) => status)
        expect(statuses).toEqual(['pass', 'pass', 'pass', 'pass']) // the other levels would take minutes in the emulator
      },
      NO_LIMIT,
    )
  })
})

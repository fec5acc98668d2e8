// Runs the commands of the root package.json. Each command sets the workspace up (pnpm, dependencies, build), then runs its job. This script needs
// only Node and npm, and installs nothing outside the repository. Its own messages go to standard error: standard output belongs to the job.
//
//   node scripts/run.js setup | demo | playground | test | test:slow | test:all | bench | experiments | fourierft | gpu
//       [arguments of the job]

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { printSummary } from './summary.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const cache = join(root, '.cache')
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const pnpmVersion = manifest.packageManager.replace('pnpm@', '')
const pnpmHome = join(cache, `pnpm-${pnpmVersion}`)
const windows = process.platform === 'win32'

/** Local programs come first in PATH, so that a global pnpm or turbo is never used. */
const environment = {
  ...process.env,
  PATH: [join(root, 'node_modules', '.bin'), join(pnpmHome, 'node_modules', '.bin'), process.env.PATH].join(
    delimiter,
  ),
  TURBO_TELEMETRY_DISABLED: '1',
  DO_NOT_TRACK: '1',
}

const jobs = {
  setup: () => print('ready. Next: npm run demo, npm test, npm run -s fourierft -- --help'),
  demo: program('apps/quickstart'),
  playground: (args) => {
    fetchEncoder()
    return run('vite', ['preview', join(root, 'apps/playground'), ...args])
  },
  bench: program('apps/bench'),
  experiments: program('apps/experiments'),
  fourierft: program('packages/cli'),
  gpu: (args) => {
    if (!args.includes('--host') && !args.includes('--quick')) compileForCuda()
    return run('bash', [join(root, 'scripts/gpu/check.sh'), ...args], { cwd: userFolder() })
  },
  test: (args) => {
    check()
    test('quick', args)
    return close(['quick'])
  },
  'test:slow': (args) => {
    test('slow', args)
    return close(['slow'])
  },
  'test:all': (args) => {
    check()
    test('quick', args)
    test('slow', args)
    return close(['quick', 'slow'])
  },
}

/** Names of the checks that failed. */
const failed = []

const [job, ...args] = process.argv.slice(2)
if (!Object.hasOwn(jobs, job ?? ''))
  exitWith(`unknown job ${JSON.stringify(job)}; one of: ${Object.keys(jobs).join(', ')}`)
requireNode()
install()
build()
compileKernel()
process.exitCode = jobs[job](args) ?? 0

/** Checks lint, format and types. */
function check() {
  attempt('lint and format', 'biome', ['check', '.'])
  attempt('types', 'turbo', ['run', 'typecheck', '--output-logs=errors-only'])
  attempt('types of the root', 'tsc', ['-p', 'tsconfig.json'])
}

/** Runs the tests. @param kind `slow` for the projects of vitest.config.ts whose names begin with `slow:`, `quick` for the others */
function test(kind, args) {
  // No dependency contains tfjs-node's binding, a real encoder or real mails. If one cannot be fetched, its tests are skipped, with the reason.
  run('node', [join(root, 'packages/tfjs/scripts/tensorflow-binding.js')])
  fetchEncoder()
  if (kind === 'slow') run('node', [join(root, 'apps/experiments/dist/fetch-mails.js')])
  const report = reportOf(kind)
  rmSync(report, { force: true })
  const projects = kind === 'quick' ? '!slow:*' : 'slow:*'
  attempt(`${kind} tests`, 'vitest', ['run', '--project', projects, ...args], {
    env: { ...environment, FOURIERFT_TEST_REPORT: report },
  })
}

function reportOf(kind) {
  return join(cache, `tests-${kind}.json`)
}

/** Runs one of the checks, and records it if it fails. */
function attempt(name, command, args, options) {
  if (run(command, args, options) !== 0) failed.push(name)
}

/** Prints the summary of the tests and returns the exit status of all checks. */
function close(kinds) {
  const isClean = printSummary(kinds.map(reportOf))
  if (failed.length > 0) print(`failed: ${failed.join(', ')}`)
  return failed.length === 0 && isClean ? 0 : 1
}

/** Downloads a real encoder (69 MB) once; prints a warning if that fails. */
function fetchEncoder() {
  run('node', [join(root, 'packages/onnxruntime/scripts/minilm.js')])
}

/** Returns a job that runs the program of a package in the user's current folder. */
function program(folder) {
  return (args) => run('node', [join(root, folder, 'dist/main.js'), ...args], { cwd: userFolder() })
}

function requireNode() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major < 20 || (major === 20 && minor < 19)) {
    exitWith(`Node ${process.versions.node} is too old: ${manifest.engines.node} is needed`)
  }
}

/** Installs pnpm (into .cache) and the dependencies of the workspace, unless both are up to date. */
function install() {
  if (!existsSync(join(pnpmHome, 'node_modules', '.bin', 'pnpm'))) {
    print(`installing pnpm ${pnpmVersion} into ${pnpmHome}`)
    mkdirSync(pnpmHome, { recursive: true })
    writeFileSync(join(pnpmHome, 'package.json'), '{ "private": true }\n')
    runSetUpStep(
      'npm',
      ['install', '--no-audit', '--no-fund', '--loglevel=error', `pnpm@${pnpmVersion}`],
      'pnpm could not be installed from the npm registry: check the network and `npm config get registry`',
      { cwd: pnpmHome },
    )
  }
  const stamp = join(cache, 'installed')
  const state = digest(['pnpm-lock.yaml', 'pnpm-workspace.yaml', ...manifests()])
  if (existsSync(join(root, 'node_modules')) && existsSync(stamp) && readFileSync(stamp, 'utf8') === state)
    return
  print('installing dependencies')
  runSetUpStep(
    'pnpm',
    ['install', '--frozen-lockfile', '--reporter=append-only', '--loglevel=warn'],
    'the dependencies could not be installed: see the lines above, check the network and `npm config get registry`',
  )
  writeFileSync(stamp, state)
}

/** Builds every package; turbo skips those that have not changed. */
function build() {
  runSetUpStep(
    'turbo',
    ['run', 'build', '--output-logs=errors-only', '--log-prefix=none'],
    'the build failed: see the lines above',
  )
}

/**
 * Compiles the native kernel, and its CUDA source for the CPU, if the sources are newer. Prints a warning if CMake or a compiler is missing; then
 * everything works without the kernel.
 */
function compileKernel() {
  const native = join(root, 'packages/native')
  const kernel = join(native, 'build', 'fourierft.node')
  const sources = ['CMakeLists.txt', 'include/fourierft', 'src', 'addon', 'cuda', 'host-shim'].flatMap(
    (path) =>
      path.includes('.') ? [path] : readdirSync(join(native, path)).map((name) => `${path}/${name}`),
  )
  const modifiedAt = (file) => statSync(file).mtimeMs
  if (existsSync(kernel) && sources.every((file) => modifiedAt(join(native, file)) <= modifiedAt(kernel)))
    return
  if (job !== 'fourierft')
    run('node', [join(native, 'scripts/build.js'), '--cuda-host'], { stdio: ['ignore', 'ignore', 'inherit'] })
}

/** Compiles the CUDA kernels for this machine's GPU, so that sessions of ONNX Runtime find them. Without a GPU or nvcc the check says what is missing. */
function compileForCuda() {
  const works = (command, args) => spawnSync(command, args).status === 0
  if (!works('nvidia-smi', ['-L']) || !works('nvcc', ['--version'])) return
  run('node', [join(root, 'packages/native/scripts/build.js'), '--cuda'], {
    env: { CUDAARCHS: 'native', ...environment },
  })
}

function manifests() {
  const folders = ['packages', 'apps'].flatMap((folder) =>
    readdirSync(join(root, folder)).map((name) => `${folder}/${name}`),
  )
  return ['.', 'conformance', ...folders]
    .map((folder) => `${folder}/package.json`)
    .filter((file) => existsSync(join(root, file)))
}

function digest(files) {
  const hash = createHash('sha256')
  for (const file of files) hash.update(`${file}\0`).update(readFileSync(join(root, file)))
  return hash.digest('hex')
}

/** Returns the user's current folder, because npm changes to the folder of package.json. */
function userFolder() {
  return process.env.INIT_CWD ?? process.cwd()
}

/** Runs a program with the user's terminal; returns its exit status. */
function run(command, args, options = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    env: environment,
    stdio: 'inherit',
    shell: windows,
    ...options,
  })
  if (result.error) exitWith(`${command} could not be started: ${result.error.message}`)
  return result.status ?? 1
}

/** Runs a step of the set-up, and exits if it fails. Its output is printed only then. */
function runSetUpStep(command, args, problem, options = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    env: environment,
    encoding: 'utf8',
    shell: windows,
    maxBuffer: 2 ** 26,
    ...options,
  })
  if (result.status === 0) return
  process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}`)
  exitWith(result.error ? `${command} could not be started (${result.error.message}): ${problem}` : problem)
}

function print(line) {
  process.stderr.write(`fourierft: ${line}\n`)
}

function exitWith(line) {
  print(line)
  process.exit(1)
}

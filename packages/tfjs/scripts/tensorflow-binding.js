// Builds the native binding of `@tensorflow/tfjs-node` and `@tensorflow/tfjs-node-gpu` in this workspace. The packages' install step downloads
// it from a host that not every machine can reach. This script compiles the source in the npm packages and takes TensorFlow from its PyPI wheel.
// Both packages have the same source. They are linked to TensorFlow's CPU build, so `tfjs-node-gpu` also runs on the CPU here. The script needs
// Python 3 with pip and a C++ compiler, runs once, and keeps the result in .cache.
//
//   node packages/tfjs/scripts/tensorflow-binding.js       exits with 0; prints a warning if something is missing

import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const TENSORFLOW = '2.21.0'
const cache = fileURLToPath(new URL(`../../../.cache/tensorflow-${TENSORFLOW}`, import.meta.url))
const require = createRequire(import.meta.url)

/** Extracts the headers and libraries of the binding from the wheel. */
const EXTRACT = `
import sys, zipfile
wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        if name.startswith('tensorflow/include/') or name in (
            'tensorflow/libtensorflow_cc.so.2', 'tensorflow/libtensorflow_framework.so.2'):
            archive.extract(name, target)
`

const problem = provide()
if (problem) console.error(`fourierft: tfjs-node has no binding: ${problem}`)

function provide() {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'this script supports only Linux on x64'
  const packages = ['@tensorflow/tfjs-node', '@tensorflow/tfjs-node-gpu'].map((name) =>
    dirname(require.resolve(`${name}/package.json`)),
  )
  const binding = join(cache, 'tfjs_binding.node')
  if (!existsSync(binding)) {
    const failure = fetchTensorFlow() ?? compile(packages[0], binding)
    if (failure) return failure
  }
  for (const folder of packages) {
    const target = join(folder, 'lib', 'napi-v8', 'tfjs_binding.node')
    if (existsSync(target)) continue
    mkdirSync(join(folder, 'deps'), { recursive: true })
    const libraries = join(folder, 'deps', 'lib')
    if (!existsSync(libraries)) symlinkSync(join(cache, 'lib'), libraries)
    mkdirSync(dirname(target), { recursive: true })
    copyFileSync(binding, target)
  }
  return undefined
}

/** Fills `.cache/tensorflow-…/{include,lib}` from the wheel. */
function fetchTensorFlow() {
  if (existsSync(join(cache, 'lib'))) return undefined
  const temporary = `${cache}.part`
  rmSync(temporary, { recursive: true, force: true })
  mkdirSync(join(temporary, 'lib'), { recursive: true })
  const download = [
    '-m',
    'pip',
    'download',
    '--quiet',
    '--no-deps',
    '--disable-pip-version-check',
    '--dest',
    temporary,
  ]
  const downloadFailure = run(
    'python3',
    [...download, `tensorflow_cpu==${TENSORFLOW}`],
    'the TensorFlow wheel could not be fetched from PyPI',
  )
  if (downloadFailure) return downloadFailure
  const wheel = readdirSync(temporary).find((name) => name.endsWith('.whl'))
  const extractFailure = run(
    'python3',
    ['-c', EXTRACT, join(temporary, wheel), temporary],
    'the TensorFlow wheel could not be unpacked',
  )
  if (extractFailure) return extractFailure
  const extracted = join(temporary, 'tensorflow')
  for (const name of ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'])
    renameSync(join(extracted, name), join(temporary, 'lib', name))
  // The binding is linked with -ltensorflow; the wheel calls that library libtensorflow_cc.
  symlinkSync('libtensorflow_cc.so.2', join(temporary, 'lib', 'libtensorflow.so'))
  symlinkSync('libtensorflow_framework.so.2', join(temporary, 'lib', 'libtensorflow_framework.so'))
  renameSync(join(extracted, 'include'), join(temporary, 'include'))
  rmSync(extracted, { recursive: true })
  rmSync(join(temporary, wheel))
  renameSync(temporary, cache)
  return undefined
}

function compile(folder, binding) {
  const { include_dir: headers } = require('node-api-headers')
  const sources = ['tfjs_backend.cc', 'tfjs_binding.cc'].map((name) => join(folder, 'binding', name))
  const includes = [folder, join(cache, 'include'), headers].map((path) => `-I${path}`)
  const libraries = [
    `-L${join(cache, 'lib')}`,
    '-ltensorflow',
    '-ltensorflow_framework',
    '-Wl,-rpath,$ORIGIN/../../deps/lib',
  ]
  return run(
    'c++',
    [
      '-std=c++17',
      '-O2',
      '-fPIC',
      '-shared',
      '-w',
      '-DNAPI_VERSION=8',
      ...includes,
      ...sources,
      '-o',
      binding,
      ...libraries,
    ],
    'the binding could not be compiled (a C++17 compiler is needed)',
  )
}

/** Runs a program; returns undefined, or one line that describes the failure. */
function run(command, args, problem) {
  const { status, error, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  if (error) return `${problem}: ${command}: ${error.message}`
  if (status !== 0)
    return `${problem}: ${stderr.split('\n').find((line) => /error/i.test(line)) ?? stderr.trim()}`
  return undefined
}

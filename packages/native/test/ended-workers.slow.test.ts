/** Workers and processes that end during calls of the addon. Their memory is neither accessed afterwards nor leaked. */
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { kernelProblem } from '../js/kernel.js'
import { openOnnxRuntime } from '../js/onnxruntime.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const problem = kernelProblem()
const reason = problem ? ` (skipped: ${problem})` : ''

const require = createRequire(import.meta.url)
const manifest = require.resolve('onnxruntime-node/package.json')
const folder = join(dirname(manifest), 'bin', 'napi-v6', process.platform, process.arch)
const files = {
  win32: 'onnxruntime.dll',
  darwin: `libonnxruntime.${require(manifest).version}.dylib`,
  linux: 'libonnxruntime.so.1',
}
const library = join(folder, files[process.platform as keyof typeof files])

await import('onnxruntime-node')
const problemOnHost = problem ?? (await openOnnxRuntime(library).cudaProblem('cuda-host'))
const reasonOnHost = problemOnHost ? ` (skipped: ${problemOnHost})` : ''

/** Nothing is left of any environment. */
const NOTHING = { plans: 0, sessions: 0, deviceValues: 0, jobs: 0 }

/** Runs the program in a separate process, because a memory fault would end it. */
function run(task: string, end: string, rounds: number) {
  const model = join(root, 'test/__fixtures__/layer-float32.onnx')
  const program = join(root, 'test/programs/ended-workers.js')
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    [program, root, library, model, task, end, String(rounds)],
    { encoding: 'utf8' },
  )
  expect({ status, signal }, stderr).toEqual({ status: 0, signal: null })
  return JSON.parse(stdout)
}

describe.skipIf(problem !== undefined)(`workers that end with calls in flight${reason}`, () => {
  // If the status of a call is not checked, the first of these crashes in about one of ten rounds.
  test.each([
    ['kernel', 'terminate', 40],
    ['create', 'terminate', 15],
    ['run', 'terminate', 25],
    ['kernel', 'exit', 5],
    ['create', 'exit', 3],
    ['run', 'exit', 5],
    ['kernel', 'leave', 3],
    ['create', 'leave', 3],
    ['run', 'leave', 3],
  ])('%s, %s: the process continues, and no plan, session or job is left', (task, end, rounds) => {
    expect(run(task, end, rounds)).toEqual({ rounds, live: NOTHING })
  })

  test.each(['kernel', 'create', 'run'])('%s: the process can end during calls', (task) => {
    expect(run(task, 'process', 2)).toEqual({ rounds: 2 })
  })

  describe.skipIf(problemOnHost !== undefined)(`with values on a device${reasonOnHost}`, () => {
    test.each([
      ['terminate', 15],
      ['exit', 3],
      ['leave', 3],
    ])('%s: the process continues, and no value is left', (end, rounds) => {
      expect(run('device', end, rounds)).toEqual({ rounds, live: NOTHING })
    })

    test('the process can end during calls', () => {
      expect(run('device', 'process', 2)).toEqual({ rounds: 2 })
    })
  })
})

// A program in which workers, or the process, end repeatedly while calls are running. It prints the number of remaining objects as one line of
// JSON; an access to freed memory would crash it first. `ended-workers.slow.test.ts` runs it, and `cpp.slow.test.ts` runs it with an addon
// that is compiled with AddressSanitizer.
//
//   node ended-workers.js <folder of the compiled package> <libonnxruntime> <model> <task> <end> <rounds>
//
// task: the calls of the workers (below). end: how the workers end: `terminate`, `exit` (process.exit in the worker), `leave` (the worker's
// program ends before its calls), or `process` (process.exit in the main thread).
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { isMainThread, parentPort, Worker } from 'node:worker_threads'

const [folder, library, model, task, end, rounds] = process.argv.slice(2)
const load = (file) => import(pathToFileURL(join(folder, 'dist', file)).href)

const WORKERS = 4
const CALLS = 8

const [d1, d2, n, tokens] = [24, 20, 30, 6]

const tensor = (type, dims, data) => ({ type, dims, data })
const inputs = {
  x: tensor('float32', [1, tokens, d2], new Float32Array(tokens * d2)),
  g: tensor('float32', [1, tokens, d1], new Float32Array(tokens * d1)),
  c: tensor('float32', [2, n], new Float32Array(2 * n)),
  rows: tensor('int64', [1], BigInt64Array.of(1n)),
}

/** Each task prepares and returns a function that makes one round of calls. */
const tasks = {
  async kernel() {
    const { kernel } = await load('index.js')
    const native = kernel()
    return async () => {
      // New entries, as a loaded adapter has them: only the end of the worker frees their plan.
      const entries = {
        n,
        rows: Uint32Array.from({ length: n }, (_, l) => l % d1),
        columns: Uint32Array.from({ length: n }, (_, l) => l % d2),
      }
      const layer = { shape: [d1, d2], entries, coefficients: new Float32Array(n).fill(1), scaling: 1 }
      const x = new Float32Array(tokens * d2).fill(1)
      const gradients = { coefficients: [new Float32Array(n)], x: new Float32Array(x.length) }
      await Promise.all([
        native.addForward([layer], x, new Float32Array(tokens * d1)),
        native.addBackward([layer], x, new Float32Array(tokens * d1), gradients),
        native.delta(layer),
      ])
    }
  },
  async create() {
    const runtime = (await load('index.js')).openOnnxRuntime(library)
    const options = { intraOpNumThreads: 1 }
    return async () => {
      const session = await runtime.createSession(model, options)
      // Some sessions are released, the others are freed with the worker.
      if (Math.random() < 0.5) session.release()
    }
  },
  async run() {
    const runtime = (await load('index.js')).openOnnxRuntime(library)
    const session = await runtime.createSession(model, { intraOpNumThreads: 1 })
    return () => session.run(inputs, ['y', 'grad_c', 'grad_x'])
  },
  async device() {
    const runtime = (await load('index.js')).openOnnxRuntime(library)
    const options = { intraOpNumThreads: 1, executionProviders: ['cuda-host'] }
    const session = await runtime.createSession(model, options)
    const run = (x) => session.run({ ...inputs, x }, ['y', 'grad_x'], { onDevice: ['grad_x'] })
    return async () => {
      const { grad_x } = await run(inputs.x)
      await Promise.all([grad_x.read(), run(grad_x)])
      // Some values are released, the others are freed with the worker.
      if (Math.random() < 0.5) grad_x.release()
    }
  },
}

if (isMainThread) await main()
else await work()

async function work() {
  const call = await tasks[task]()
  parentPort.postMessage('started')
  if (end === 'leave') {
    for (let i = 0; i < CALLS; i++) call()
    return
  }
  if (end === 'exit') setTimeout(() => process.exit(), Math.random() * 30)
  for (;;) await Promise.all(Array.from({ length: CALLS }, call))
}

async function main() {
  // The main thread keeps the library of ONNX Runtime loaded.
  createRequire(import.meta.url)('onnxruntime-node')
  for (let round = 0; round < Number(rounds); round++) {
    const workers = Array.from(
      { length: WORKERS },
      () => new Worker(fileURLToPath(import.meta.url), { argv: process.argv.slice(2) }),
    )
    const exits = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)))
    for (const worker of workers) worker.once('error', (error) => fail(error))
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))))
    if (end === 'terminate' || end === 'process')
      await new Promise((resolve) => setTimeout(resolve, (round * 7) % 40))
    if (end === 'process' && round === Number(rounds) - 1) {
      console.log(JSON.stringify({ rounds: round + 1 }))
      process.exit()
    }
    if (end !== 'exit' && end !== 'leave') for (const worker of workers) worker.terminate()
    await Promise.all(exits)
  }
  const { addon } = (await load('addon.js')).loadAddon()
  console.log(JSON.stringify({ rounds: Number(rounds), live: addon.live() }))
}

function fail(error) {
  console.error(error)
  process.exit(1)
}

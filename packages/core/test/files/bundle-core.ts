/** Bundles the package from its sources, for child processes of tests, and to check the bundle of a browser. */
import { fileURLToPath } from 'node:url'
import { type OutputChunk, rolldown } from 'rolldown'

const ENTRY = fileURLToPath(new URL('../../src/index.ts', import.meta.url))

/** @returns the chunks of an ES module: the entry first, then dynamic imports */
export async function bundleCore(
  platform: 'node' | 'browser',
  external: string[] = [],
): Promise<OutputChunk[]> {
  const bundle = await rolldown({
    input: ENTRY,
    platform,
    external,
    resolve: {
      conditionNames: ['@fourierft/source', platform === 'node' ? 'node' : 'default', 'import'],
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

/** esbuild bundles the packed packages for browsers, without an alias or a list of external modules. */
import { build } from 'esbuild'
import { expect, inject, test } from 'vitest'

const project = inject('project')

test.each(['core', 'onnx', 'onnxruntime', 'tfjs', 'transformers', 'conformance'])(
  'bundles @fourierft/%s for browsers without modules of Node',
  async (name) => {
    // esbuild fails if an import cannot be resolved, also for every `node:` import.
    const { metafile, warnings } = await build({
      stdin: { contents: `export * from '@fourierft/${name}'`, resolveDir: project },
      absWorkingDir: project,
      bundle: true,
      format: 'esm',
      platform: 'browser',
      metafile: true,
      write: false,
      logLevel: 'silent',
    })
    const files = Object.keys(metafile.inputs)
    expect(files).toContain(`node_modules/@fourierft/${name}/dist/index.js`)
    expect(files.filter((file) => file.endsWith('/platform/node.js'))).toEqual([])
    expect(Object.values(metafile.outputs).flatMap(({ imports }) => imports)).toEqual([])
    expect(warnings).toEqual([])
  },
)

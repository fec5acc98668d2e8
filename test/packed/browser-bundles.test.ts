/** esbuild bundles the packed packages for browsers, without an alias or a list of external modules. */
import { build } from 'esbuild'
import { expect, inject, test } from 'vitest'

const project = inject('project')

test.each(['core', 'onnx', 'onnxruntime', 'tfjs', 'transformers', 'conformance'])(
  '@fourierft/%s is bundled for browsers and reaches no module of Node',
  async (name) => {
    // A module that is not found, as every `node:` module in a browser, is an error.
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

import { fileURLToPath } from 'node:url'
import { playwright } from '@vitest/browser-playwright'
import { defaultClientConditions, defaultServerConditions } from 'vite'
import { configDefaults, defineConfig, type TestProjectInlineConfiguration } from 'vitest/config'
import { CHROMIUM_FLAGS, findChromium } from './test/chromium.js'

const chromium = findChromium()

/** The condition under which every package of the workspace is its TypeScript sources: no test sees an old build of another package. */
const SOURCE = '@fourierft/source'

/** `*.test-d.ts`: promises of the types, which the compiler keeps. */
const TYPES = { enabled: true, include: ['src/**/*.test-d.ts'], tsconfig: 'tsconfig.json' }

/** The tests of one folder, in Node. */
const inNode = (
  name: string,
  root: string,
  { types = false, test }: { types?: boolean; test?: TestProjectInlineConfiguration['test'] } = {},
): TestProjectInlineConfiguration => ({
  ssr: { resolve: { conditions: [SOURCE, ...defaultServerConditions] } },
  test: {
    name,
    root,
    include: ['{src,js,test}/**/*.test.ts'],
    exclude: [...configDefaults.exclude, '**/test/browser/**'],
    testTimeout: 300_000,
    ...(types && { typecheck: TYPES }),
    ...test,
  },
})

/** What runs in a real browser, where there is one; `test/chromium.test.ts` says so where there is none. */
const inBrowser = (
  name: string,
  include: string[],
  alias: Record<string, string> = {},
): TestProjectInlineConfiguration => ({
  // What is bundled for one project is not what another one needs.
  cacheDir: `node_modules/.vite/${name}`,
  resolve: { conditions: [SOURCE, ...defaultClientConditions], alias },
  test: {
    name,
    include,
    testTimeout: 300_000,
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      provider: playwright({ launchOptions: { executablePath: chromium ?? '', args: CHROMIUM_FLAGS } }),
      instances: [{ browser: 'chromium' }],
    },
  },
})

/** transformers.js as content delivery networks serve it: one file. */
const TRANSFORMERS = 'packages/transformers/node_modules/@huggingface/transformers/dist/transformers.min.js'

const browsers = [
  inBrowser('browser', ['{packages/*,conformance}/test/browser/**/*.test.ts']),
  inBrowser('browser-cdn', ['packages/transformers/test/browser/pipelines.test.ts'], {
    '@huggingface/transformers': fileURLToPath(new URL(TRANSFORMERS, import.meta.url)),
  }),
]

/** One run over the whole workspace; the projects are the folders that have tests. */
export default defineConfig({
  test: {
    projects: [
      inNode('core', 'packages/core', { types: true }),
      inNode('conformance', 'conformance'),
      inNode('tfjs', 'packages/tfjs', { types: true }),
      inNode('native', 'packages/native'),
      inNode('onnx', 'packages/onnx'),
      inNode('onnxruntime', 'packages/onnxruntime'),
      inNode('transformers', 'packages/transformers'),
      inNode('cli', 'packages/cli'),
      inNode('quickstart', 'apps/quickstart'),
      inNode('experiments', 'apps/experiments'),
      inNode('playground', 'apps/playground', {
        test: {
          include: [
            '{src,page-files}/**/*.test.ts',
            ...(chromium === undefined ? [] : ['test/**/*.test.ts']),
          ],
        },
      }),
      inNode('packages', '.', { test: { include: ['test/**/*.test.ts'] } }),
      ...(chromium === undefined ? [] : browsers),
    ],
  },
})

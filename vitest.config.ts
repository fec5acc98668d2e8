import { fileURLToPath } from 'node:url'
import { playwright } from '@vitest/browser-playwright'
import { defaultClientConditions, defaultServerConditions } from 'vite'
import { configDefaults, defineConfig, type TestProjectInlineConfiguration } from 'vitest/config'
import { VitestReport } from './scripts/vitest-report.js'
import { CHROMIUM_FLAGS, findChromium } from './test/chromium.js'

const chromium = findChromium()

/** The path of the report for `scripts/summary.js`; undefined: no report is written. */
const report = process.env.FOURIERFT_TEST_REPORT

/**
 * The condition under which a package of the workspace is its TypeScript sources, so that no test sees an old build of another package.
 * `require('@fourierft/native')` still gives the build, because Node itself loads it.
 */
const SOURCE = '@fourierft/source'

/** `*.test-d.ts`: promises of the types, which the compiler keeps. */
const TYPES = { enabled: true, include: ['src/**/*.test-d.ts'], tsconfig: 'tsconfig.json' }

/** Files of tests that take long, or need programs that few machines have: a project of their own, `slow:…`. */
const SLOW = '**/*.slow.test.ts'

/** Milliseconds after which a test, a hook or a browser counts as hanging. No test depends on the speed of the machine. */
const HANG_MS = 300_000

/** The tests of one folder in Node, as two projects: `core`, say, and `slow:core`. */
function inNode(
  name: string,
  root: string,
  { types = false, include = ['{src,js,test}/**/*.test.ts'] }: { types?: boolean; include?: string[] } = {},
): TestProjectInlineConfiguration[] {
  const exclude = [...configDefaults.exclude, '**/test/browser/**']
  const common = { root, testTimeout: HANG_MS, hookTimeout: HANG_MS }
  const ssr = { resolve: { conditions: [SOURCE, ...defaultServerConditions] } }
  return [
    {
      ssr,
      test: { ...common, name, include, exclude: [...exclude, SLOW], ...(types && { typecheck: TYPES }) },
    },
    {
      ssr,
      test: {
        ...common,
        name: `slow:${name}`,
        include: include.map((files) => files.replace('*.test', '*.slow.test')),
        exclude,
      },
    },
  ]
}

/** Tests in a real browser. Without a browser they are left out, and `test/chromium.test.ts` is skipped with the reason. */
const inBrowser = (
  name: string,
  include: string[],
  alias: Record<string, string> = {},
): TestProjectInlineConfiguration => ({
  // What is bundled for one project is not what another one needs.
  cacheDir: `node_modules/.vite/${name.replace(':', '-')}`,
  resolve: { conditions: [SOURCE, ...defaultClientConditions], alias },
  test: {
    name,
    include,
    testTimeout: HANG_MS,
    hookTimeout: HANG_MS,
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      connectTimeout: HANG_MS,
      provider: playwright({
        launchOptions: { executablePath: chromium ?? '', args: CHROMIUM_FLAGS, timeout: HANG_MS },
      }),
      instances: [{ browser: 'chromium' }],
    },
  },
})

/** The packed packages in an empty project. However long the programs take there, no test fails for it. */
const packed: TestProjectInlineConfiguration = {
  test: {
    name: 'slow:packed',
    include: ['test/packed/*.test.ts'],
    globalSetup: ['test/packed/install.ts'],
    testTimeout: 0,
  },
}

/** transformers.js as content delivery networks serve it: one file. */
const TRANSFORMERS = 'packages/transformers/node_modules/@huggingface/transformers/dist/transformers.min.js'

const browsers = [
  inBrowser('slow:browser', ['{packages/*,conformance}/test/browser/**/*.test.ts']),
  inBrowser('slow:browser-cdn', ['packages/transformers/test/browser/pipelines.test.ts'], {
    '@huggingface/transformers': fileURLToPath(new URL(TRANSFORMERS, import.meta.url)),
  }),
]

/** `npm test` runs the projects whose name does not begin with `slow:`, `npm run test:all` runs all. */
export default defineConfig({
  test: {
    reporters: ['default', ...(report === undefined ? [] : [new VitestReport(report)])],
    projects: [
      ...inNode('core', 'packages/core', { types: true }),
      ...inNode('conformance', 'conformance'),
      ...inNode('tfjs', 'packages/tfjs', { types: true }),
      ...inNode('native', 'packages/native'),
      ...inNode('onnx', 'packages/onnx'),
      ...inNode('onnxruntime', 'packages/onnxruntime'),
      ...inNode('transformers', 'packages/transformers'),
      ...inNode('server', 'packages/server'),
      ...inNode('cli', 'packages/cli'),
      ...inNode('quickstart', 'apps/quickstart'),
      ...inNode('experiments', 'apps/experiments'),
      ...inNode('playground', 'apps/playground', {
        include: ['{src,page-files}/**/*.test.ts', ...(chromium === undefined ? [] : ['test/**/*.test.ts'])],
      }),
      ...inNode('packages', '.', { include: ['test/*.test.ts'] }),
      packed,
      ...(chromium === undefined ? [] : browsers),
    ],
  },
})

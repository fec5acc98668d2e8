import { fileURLToPath } from 'node:url'
import { playwright } from '@vitest/browser-playwright'
import { configDefaults, defineConfig, type TestProjectInlineConfiguration } from 'vitest/config'
import { CHROMIUM_FLAGS, findChromium } from './test/chromium.js'

const chromium = findChromium()

/** What runs in a real browser, where there is one; `test/chromium.test.ts` says so where there is none. */
const inBrowser = (name: string, include: string[], alias = {}): TestProjectInlineConfiguration => ({
  // What is bundled for one project is not what another one needs.
  cacheDir: `node_modules/.vite/${name}`,
  resolve: {
    alias: {
      '#node-files': fileURLToPath(new URL('packages/core/src/files/no-node-files.ts', import.meta.url)),
      '#native-kernel': fileURLToPath(new URL('packages/tfjs/src/native-kernel/none.ts', import.meta.url)),
      '#platform': fileURLToPath(new URL('packages/onnxruntime/src/platform/browser.ts', import.meta.url)),
      '#runtime': fileURLToPath(new URL('packages/transformers/src/runtime/browser.ts', import.meta.url)),
      ...alias,
    },
  },
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

const browser = inBrowser('browser', ['{packages/*,conformance}/test/browser/**/*.test.ts'])

/** The tests of `packages/transformers` again, with the build of transformers.js that CDNs serve: one file, as it is. */
const TRANSFORMERS = 'packages/transformers/node_modules/@huggingface/transformers/dist/transformers.min.js'
const browserCdn = inBrowser('browser-cdn', ['packages/transformers/test/browser/pipelines.test.ts'], {
  '@huggingface/transformers': fileURLToPath(new URL(TRANSFORMERS, import.meta.url)),
})

const inNode = [...configDefaults.exclude, '**/test/browser/**']

/** `*.test-d.ts`: promises of the types, which the compiler keeps. */
const TYPES = { enabled: true, include: ['src/**/*.test-d.ts'], tsconfig: 'tsconfig.json' }

/** One run over the whole workspace; the projects are the rooms that have tests. */
export default defineConfig({
  test: {
    projects: [
      {
        // Tests run on the sources, where package.json's `imports` lead to what was built from them.
        resolve: {
          alias: {
            '#node-files': fileURLToPath(new URL('packages/core/src/files/node-files.ts', import.meta.url)),
          },
        },
        test: {
          name: 'core',
          root: 'packages/core',
          typecheck: TYPES,
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: inNode,
        },
      },
      {
        test: {
          name: 'conformance',
          root: 'conformance',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: inNode,
          testTimeout: 300_000,
        },
      },
      {
        resolve: {
          alias: {
            '#native-kernel': fileURLToPath(
              new URL('packages/tfjs/src/native-kernel/node.ts', import.meta.url),
            ),
          },
        },
        test: {
          name: 'tfjs',
          root: 'packages/tfjs',
          typecheck: TYPES,
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: inNode,
          testTimeout: 300_000,
        },
      },
      {
        test: {
          name: 'native',
          root: 'packages/native',
          include: ['js/**/*.test.ts', 'test/**/*.test.ts'],
          testTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'onnx',
          root: 'packages/onnx',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          testTimeout: 120_000,
        },
      },
      {
        resolve: {
          alias: {
            '#platform': fileURLToPath(new URL('packages/onnxruntime/src/platform/node.ts', import.meta.url)),
          },
        },
        test: {
          name: 'onnxruntime',
          root: 'packages/onnxruntime',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: inNode,
          testTimeout: 120_000,
        },
      },
      {
        resolve: {
          alias: {
            '#runtime': fileURLToPath(new URL('packages/transformers/src/runtime/node.ts', import.meta.url)),
          },
        },
        test: {
          name: 'transformers',
          root: 'packages/transformers',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: inNode,
          testTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'cli',
          root: 'packages/cli',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          testTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'quickstart',
          root: 'apps/quickstart',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          testTimeout: 300_000,
        },
      },
      {
        test: {
          name: 'experiments',
          root: 'apps/experiments',
          include: ['src/**/*.test.ts'],
          testTimeout: 300_000,
        },
      },
      {
        test: {
          name: 'playground',
          root: 'apps/playground',
          include: [
            '{src,page-files}/**/*.test.ts',
            ...(chromium === undefined ? [] : ['test/**/*.test.ts']),
          ],
          testTimeout: 120_000,
        },
      },
      { test: { name: 'packages', include: ['test/**/*.test.ts'], testTimeout: 120_000 } },
      ...(chromium === undefined ? [] : [browser, browserCdn]),
    ],
  },
})

import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

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
        test: { name: 'core', root: 'packages/core', include: ['src/**/*.test.ts', 'test/**/*.test.ts'] },
      },
      {
        test: {
          name: 'conformance',
          root: 'conformance',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          testTimeout: 300_000,
        },
      },
      {
        test: {
          name: 'tfjs',
          root: 'packages/tfjs',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
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
      { test: { name: 'packages', include: ['test/**/*.test.ts'], testTimeout: 120_000 } },
    ],
  },
})

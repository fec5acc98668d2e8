import { defineConfig } from 'vitest/config'

/** One run over the whole workspace; the projects are the rooms that have tests. */
export default defineConfig({
  test: {
    projects: [
      { test: { name: 'core', root: 'packages/core', include: ['src/**/*.test.ts', 'test/**/*.test.ts'] } },
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

/**
 * The Vite configuration of the pages for tests: builds them from the TypeScript sources of all packages. Vite does not load `vite.config.ts`
 * itself, because Node would then have to import those sources.
 */
import { fileURLToPath } from 'node:url'
import { defaultClientConditions, type InlineConfig, mergeConfig } from 'vite'
import config from '../vite.config.js'

export const pageConfig: InlineConfig = mergeConfig(config, {
  configFile: false,
  root: fileURLToPath(new URL('..', import.meta.url)),
  logLevel: 'error',
  resolve: { conditions: ['@fourierft/source', ...defaultClientConditions] },
} satisfies InlineConfig)

/** Builds the page into a temporary folder and starts a browser, for tests. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Browser, chromium } from 'playwright'
import { build, mergeConfig } from 'vite'
import { CHROMIUM_FLAGS, findChromium } from '../../../test/chromium.js'
import { pageConfig } from './page-config.js'
import { TEST_TIMEOUT } from './test-timeout.js'

export interface BuiltPage {
  /** A temporary folder, where tests can write too. */
  readonly folder: string
  /** The folder of the built page, inside of `folder`. */
  readonly outDir: string
  readonly browser: Browser
  /** Closes the browser and deletes the folder. */
  close(): Promise<void>
}

/** @param input the HTML file of another page than those of the playground */
export async function buildPage(input?: string): Promise<BuiltPage> {
  const folder = await mkdtemp(join(tmpdir(), 'playground-'))
  const outDir = join(folder, 'page')
  try {
    const rolldownOptions = input === undefined ? {} : { input: [input] }
    await build(mergeConfig(pageConfig, { build: { outDir, rolldownOptions } }))
    const browser = await chromium.launch({
      executablePath: findChromium() ?? '',
      args: CHROMIUM_FLAGS,
      timeout: TEST_TIMEOUT,
    })
    const close = async () => {
      await browser.close()
      await rm(folder, { recursive: true })
    }
    return { folder, outDir, browser, close }
  } catch (error) {
    await rm(folder, { recursive: true })
    throw error
  }
}

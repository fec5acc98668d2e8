/** A built page in a browser, for tests. */
import type { Browser, Page } from 'playwright'
import { mergeConfig, type PreviewServer, preview } from 'vite'
import { pageConfig } from './page-config.js'
import { TEST_TIMEOUT } from './test-timeout.js'

export interface OpenPage {
  readonly server: PreviewServer
  readonly page: Page
  /** The URLs of all requests. */
  readonly fetched: readonly string[]
  /** The URLs of requests to other servers. */
  readonly externalRequests: readonly string[]
  /** The messages of errors that the page did not catch. */
  readonly errors: readonly string[]
  /** The errors in the console. */
  readonly consoleErrors: readonly string[]
}

/** Serves a built page, opens it, and records its requests and errors. */
export async function openPage(browser: Browser, outDir: string): Promise<OpenPage> {
  const server = await preview(mergeConfig(pageConfig, { build: { outDir }, preview: { port: 0 } }))
  const [address = ''] = server.resolvedUrls?.local ?? []
  const fetched: string[] = []
  const externalRequests: string[] = []
  const errors: string[] = []
  const consoleErrors: string[] = []
  try {
    const page = await browser.newPage()
    page.setDefaultTimeout(TEST_TIMEOUT)
    page.on('request', (request) => {
      fetched.push(request.url())
      if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(address))
        externalRequests.push(request.url())
    })
    page.on('pageerror', ({ message }) => errors.push(message))
    page.on('console', (message) => {
      if (message.type() === 'error') consoleErrors.push(message.text())
    })
    await page.goto(address)
    return { server, page, fetched, externalRequests, errors, consoleErrors }
  } catch (error) {
    await server.close()
    throw error
  }
}

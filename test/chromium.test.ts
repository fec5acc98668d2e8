/** If Chromium is not installed, one skipped test lists the missing browser tests (`test/browser/` of the packages, `test/` of the playground). */
import { expect, test } from 'vitest'
import { findChromium } from './chromium.js'

const chromium = findChromium()

test.skipIf(chromium === undefined)(
  chromium === undefined
    ? 'browser tests of core, tfjs, onnxruntime and the playground (skipped: Chromium is not installed; Debian: apt-get install chromium, or set FOURIERFT_CHROMIUM)'
    : 'finds Chromium for the browser tests',
  () => {
    expect(chromium).toBeDefined()
  },
)

/**
 * Browsers. Users pass ONNX Runtime, because it has several builds, and an import in this file would add a second build to every bundle. Models
 * are loaded by URL, and there is no native kernel.
 */
import { FourierFTError } from '@fourierft/core'
import type { Platform } from './platform.js'

export const platform: Platform = {
  async loadOrt() {
    throw new FourierFTError(
      'UNSUPPORTED',
      'ort: expected an ONNX Runtime, because browsers have no default; received undefined',
      {
        advice:
          "import * as ort from 'onnxruntime-web' (or another build of it), and call createSession(model, { ort })",
        option: 'ort',
      },
    )
  },
  localPath: () => undefined,
  readFile: noFiles,
  openFile: noFiles,
  writeFile: noFiles,
  // Timers wait for at least 4 ms, messages do not.
  nextTask: () =>
    new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel()
      port1.onmessage = () => {
        port1.close()
        resolve()
      }
      port2.postMessage(undefined)
    }),
  memory: () => ({ free: Number.POSITIVE_INFINITY, total: Number.POSITIVE_INFINITY }),
  async openNativeKernel() {
    throw new Error('there is no native kernel in a browser')
  },
}

async function noFiles(path: string): Promise<never> {
  throw new FourierFTError('UNSUPPORTED', `${path}: browsers cannot open files`, {
    advice: 'give a URL or bytes',
    file: path,
  })
}

/** Where there is no Node there is no native kernel. */
import type { OpenNativeKernel } from './kernel.js'

export const openNativeKernel: OpenNativeKernel = () => undefined

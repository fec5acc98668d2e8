/**
 * WebGPU in Node for tests: the GPU of the machine, or SwiftShader (Vulkan on the CPU), which is part of Debian's chromium. SwiftShader
 * checks results but not speed.
 */
import { existsSync } from 'node:fs'
import { FourierFTError } from '@fourierft/core'
import { provideWebGpu } from '../src/webgpu-in-node.js'

const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json'

/** Starts WebGPU. @returns the name of the GPU, or in `missing` the reason why there is none */
export async function webGpuInNode(): Promise<{ readonly gpu: string } | { readonly missing: string }> {
  try {
    return { gpu: await provideWebGpu().catch(withSoftware) }
  } catch (error) {
    if (FourierFTError.isInstance(error)) return { missing: error.message }
    throw error
  }
}

async function withSoftware(error: unknown): Promise<string> {
  if (!existsSync(SWIFTSHADER)) throw error
  // The Vulkan loader reads this variable when Dawn, the WebGPU implementation, creates its next instance.
  process.env.VK_ADD_DRIVER_FILES = SWIFTSHADER
  return provideWebGpu()
}

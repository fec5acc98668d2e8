/** The tests of the backend `tfjs-webgl`, in a browser. */
import { env } from '@tensorflow/tfjs-core'
import { expect, it } from 'vitest'
import { testDevice } from '../test-device.js'

const gl = document.createElement('canvas').getContext('webgl2')
const names = gl?.getExtension('WEBGL_debug_renderer_info')

if (!gl || !names) {
  it.skip('tfjs-webgl (skipped: this browser has no WebGL 2)', () => {})
} else {
  testDevice({
    backend: 'webgl',
    gpu: String(gl.getParameter(names.UNMASKED_RENDERER_WEBGL)),
    load: () => import('@tensorflow/tfjs-backend-webgl'),
  })
  it('renders to float32 textures, which the limits of the errors assume', () => {
    expect(env().getBool('WEBGL_RENDER_FLOAT32_ENABLED')).toBe(true)
    expect(env().getBool('WEBGL_FORCE_F16_TEXTURES')).toBe(false)
  })
}

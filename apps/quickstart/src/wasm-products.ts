/**
 * Speeds up training with TensorFlow.js on WebAssembly. Its matrix product uses SIMD only if neither factor is transposed, but every gradient of
 * a product has a transposed factor, and the scalar loop is five times slower than a transposition plus the SIMD product. This file replaces
 * the wasm `BatchMatMul` kernel by one that transposes first. The sums are the same in another order.
 */
import * as tf from '@tensorflow/tfjs-core'
import '@tensorflow/tfjs-backend-wasm'

/** Makes wasm the backend, with SIMD for transposed products. Call it once, before the first computation. */
export async function useWasm(): Promise<void> {
  await tf.setBackend('wasm')
  const product = tf.getKernel('BatchMatMul', 'wasm')
  const transposition = tf.getKernel('Transpose', 'wasm')
  tf.unregisterKernel('BatchMatMul', 'wasm')
  tf.registerKernel({
    ...product,
    kernelFunc({ inputs, backend, attrs }) {
      const transposeA = attrs?.transposeA === true
      const transposeB = attrs?.transposeB === true
      const flip = (x: tf.TensorInfo): tf.TensorInfo => {
        const perm = x.shape.map((_, axis) => axis)
        const [columns, rows] = [perm.pop() ?? 0, perm.pop() ?? 0]
        return one(
          transposition.kernelFunc({ inputs: { x }, backend, attrs: { perm: [...perm, columns, rows] } }),
        )
      }
      const a = transposeA ? flip(named(inputs, 'a')) : named(inputs, 'a')
      const b = transposeB ? flip(named(inputs, 'b')) : named(inputs, 'b')
      const output = product.kernelFunc({
        inputs: { a, b },
        backend,
        attrs: { transposeA: false, transposeB: false },
      })
      const memory = backend as tf.KernelBackend
      if (transposeA) memory.disposeData(a.dataId)
      if (transposeB) memory.disposeData(b.dataId)
      return output
    },
  })
}

const one = (output: tf.TensorInfo | tf.TensorInfo[]): tf.TensorInfo => {
  const [tensor] = Array.isArray(output) ? output : [output]
  if (tensor === undefined) throw new Error('a kernel returned no tensor')
  return tensor
}

const named = (inputs: tf.NamedTensorInfoMap, name: string): tf.TensorInfo => {
  const tensor = inputs[name]
  if (tensor === undefined) throw new Error(`a matrix product has no input ${name}`)
  return tensor
}

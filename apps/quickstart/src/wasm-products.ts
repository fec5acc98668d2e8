/**
 * Speeds up training with TensorFlow.js on WebAssembly. Its matrix product uses SIMD only if neither factor is transposed, but every gradient of
 * a product has a transposed factor. The scalar loop for these is five times slower than a transposition and the SIMD product. So this file
 * replaces the wasm kernel `BatchMatMul` by one that transposes first. It adds the same terms in another order.
 */
import * as tf from '@tensorflow/tfjs-core'
import '@tensorflow/tfjs-backend-wasm'

/** Makes wasm the backend, with SIMD for transposed products. Has to be called once, before the first computation. */
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
      const transpose = (x: tf.TensorInfo): tf.TensorInfo => {
        const perm = x.shape.map((_, axis) => axis)
        const [columns, rows] = [perm.pop() ?? 0, perm.pop() ?? 0]
        return singleOutput(
          transposition.kernelFunc({ inputs: { x }, backend, attrs: { perm: [...perm, columns, rows] } }),
        )
      }
      const a = transposeA ? transpose(inputNamed(inputs, 'a')) : inputNamed(inputs, 'a')
      const b = transposeB ? transpose(inputNamed(inputs, 'b')) : inputNamed(inputs, 'b')
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

const singleOutput = (output: tf.TensorInfo | tf.TensorInfo[]): tf.TensorInfo => {
  const [tensor] = Array.isArray(output) ? output : [output]
  if (tensor === undefined) throw new Error('a kernel returned no tensor')
  return tensor
}

const inputNamed = (inputs: tf.NamedTensorInfoMap, name: string): tf.TensorInfo => {
  const tensor = inputs[name]
  if (tensor === undefined) throw new Error(`a matrix product has no input ${name}`)
  return tensor
}

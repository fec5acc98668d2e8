/** `tf.customGrad` with a simpler signature. */
import { customGrad, type Tensor } from '@tensorflow/tfjs-core'

/**
 * @param inputs the tensors that get gradients
 * @param forward the result as `value`, and the tensors that `backward` needs as `saved`
 * @param backward one gradient for each input, of that input's shape
 */
export function withGradient(
  inputs: readonly Tensor[],
  forward: () => { readonly value: Tensor; readonly saved?: Tensor[] },
  backward: (gradient: Tensor, saved: Tensor[]) => Tensor[],
): Tensor {
  const differentiable = customGrad((...args) => {
    const { value, saved = [] } = forward()
    const save = args.at(-1)
    if (typeof save === 'function') save(saved)
    return { value, gradFunc: backward }
  })
  return differentiable(...inputs)
}

/** `tf.customGrad` with a plain signature: what the forward pass gives, what it keeps, and the gradient for each input. */
import { customGrad, type Tensor } from '@tensorflow/tfjs-core'

/**
 * @param inputs what the result is differentiated by
 * @param forward its `value`, and the tensors that `backward` needs (kept until the gradient is done)
 * @param backward one gradient for each input, of that input's shape
 */
export function withGradient(
  inputs: readonly Tensor[],
  forward: () => { readonly value: Tensor; readonly saved?: Tensor[] },
  backward: (gradient: Tensor, saved: Tensor[]) => Tensor[],
): Tensor {
  const differentiable = customGrad((...received) => {
    const { value, saved = [] } = forward()
    const save = received.at(-1)
    if (typeof save === 'function') save(saved)
    return { value, gradFunc: backward }
  })
  return differentiable(...inputs)
}

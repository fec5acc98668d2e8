/** Models with a call of two steps, between which a test can run code. */
import type { PreTrainedModel, Tensor } from '@huggingface/transformers'

type Inputs = Record<string, Tensor>

export interface TwoSteps {
  /** Runs the model, then `between`, then the model again, and returns the outputs of the second run. */
  twice(inputs: Inputs, between: () => unknown): Promise<Record<string, Tensor>>
}

/** Adds the method `twice` to the model's prototype. Has to be called before `attach`. */
export function withTwoSteps<Model extends PreTrainedModel>(model: Model): Model & TwoSteps {
  const methods = {
    async twice(this: PreTrainedModel, inputs: Inputs, between: () => unknown) {
      await this.forward(inputs)
      await between()
      return this.forward(inputs)
    },
  }
  const prototype = Object.setPrototypeOf(methods, Object.getPrototypeOf(model))
  return Object.setPrototypeOf(model, prototype)
}

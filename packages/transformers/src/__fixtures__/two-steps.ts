/** Models with a call of two steps, between which a test can do something. */
import type { PreTrainedModel, Tensor } from '@huggingface/transformers'

type Inputs = Record<string, Tensor>

export interface TwoSteps {
  /** The outputs of the second step. */
  twice(inputs: Inputs, between: () => unknown): Promise<Record<string, Tensor>>
}

/** Adds a method to the model as if its class had it. Has to be called before `attach`. */
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

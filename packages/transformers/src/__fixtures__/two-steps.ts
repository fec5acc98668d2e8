/** Models whose calls can be looked into: two steps, and something that happens between them. */
import type { PreTrainedModel, Tensor } from '@huggingface/transformers'

type Inputs = Record<string, Tensor>

export interface TwoSteps {
  /** The outputs of the second step. */
  twice(inputs: Inputs, between: () => unknown): Promise<Record<string, Tensor>>
}

/** The model with one method more, which is of its class as all others are. Before it is attached. */
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

/**
 * LoRA as a branch of the same training graph that FourierFT has: y += (α/r)·B·(A·x). It exists only for comparisons.
 *
 * @see Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, equation 3
 */
import {
  DataType,
  findLinearLayers,
  type LinearLayer,
  type NewNode,
  type OnnxModel,
  productsOf,
} from '@fourierft/onnx'

/** The inputs of one adapted layer. */
export interface LoraInputs {
  readonly module: string
  /** `[d2, r]`, the transpose of PEFT's `lora_A`. */
  readonly down: string
  /** `[r, d1]`, the transpose of PEFT's `lora_B`. */
  readonly up: string
  readonly inFeatures: number
  readonly outFeatures: number
}

export interface LoraOptions {
  /** Modules whose names end with one of these are adapted. */
  readonly targetModules: readonly string[]
  readonly rank: number
  /** α. */
  readonly alpha: number
}

/** Adds the branches. The matrices are inputs of the graph. */
export function attachLora(model: OnnxModel, options: LoraOptions): readonly LoraInputs[] {
  const { targetModules, rank, alpha } = options
  const isTarget = ({ module, part }: LinearLayer) =>
    part === undefined && targetModules.some((name) => module === name || module?.endsWith(`.${name}`))
  const { graph } = model
  const scale = 'lora.scale'
  graph.addInitializer({
    name: scale,
    dataType: DataType.float,
    dims: [],
    data: new Uint8Array(Float32Array.of(alpha / rank).buffer),
  })
  return findLinearLayers(model)
    .filter(isTarget)
    .map((layer) => {
      const { inFeatures, outFeatures } = layer
      const module = layer.module as string
      const [down, up] = [`lora.${module}.down`, `lora.${module}.up`]
      graph.addInput({ name: down, dataType: DataType.float, dims: [inFeatures, rank] })
      graph.addInput({ name: up, dataType: DataType.float, dims: [rank, outFeatures] })
      for (const product of productsOf(layer)) insertBranch(product, { down, up, scale })
      return { module, down, up, inFeatures, outFeatures }
    })
}

/** Renames the layer's output. The last node of the branch writes the old name, so that every reader reads the sum. */
function insertBranch(
  { outputNode, input }: LinearLayer,
  { down, up, scale }: { readonly down: string; readonly up: string; readonly scale: string },
): void {
  const [output] = outputNode.outputs as [string]
  const name = (step: string) => `${output}.lora.${step}`
  const node = (opType: string, inputs: string[], result: string): NewNode => ({
    opType,
    inputs,
    outputs: [result],
  })
  outputNode.setOutput(0, name('base'))
  outputNode.graph.insertAfter(outputNode, [
    node('MatMul', [input, down], name('low')),
    node('MatMul', [name('low'), up], name('high')),
    node('Mul', [name('high'), scale], name('scaled')),
    node('Add', [name('base'), name('scaled')], output),
  ])
}

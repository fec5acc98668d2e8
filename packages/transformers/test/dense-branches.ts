/**
 * The reference for quantised models: the same file with a dense branch for each layer, a product with a constant ΔW that `@fourierft/core`
 * computes. Its outputs are those of the quantised base with exact branches.
 */
import { type Adapter, delta } from '@fourierft/core'
import { DataType, findLinearLayers, type LinearLayer, matchLayers, readModel } from '@fourierft/onnx'

/**
 * Adds a dense branch to each layer that the adapter changes.
 *
 * @param isHalf whether the layers compute in float16
 * @param modulePrefix the prefix of this file's modules, if the model has several files
 */
export function withDenseBranches(
  bytes: Uint8Array,
  adapter: Adapter,
  isHalf: boolean,
  modulePrefix = '',
): Uint8Array {
  const model = readModel(bytes, { file: 'model.onnx' })
  const layers = findLinearLayers(model)
  for (const name of adapter.modules.keys()) {
    if (!name.startsWith(modulePrefix)) continue
    const matched = matchLayers(layers, [name]).matched.get(name)
    if (!matched) throw new Error(`no layer ${name}`)
    const { outFeatures, inFeatures } = matched
    const change = delta(adapter.layer(name, [outFeatures, inFeatures]))
    const transposed = new Float32Array(change.length)
    for (let o = 0; o < outFeatures; o++)
      for (let i = 0; i < inFeatures; i++) transposed[i * outFeatures + o] = change[o * inFeatures + i]
    const weight = `dense.${name}`
    const data = new Uint8Array(transposed.buffer)
    model.graph.addInitializer({
      name: weight,
      dims: [inFeatures, outFeatures],
      dataType: DataType.float,
      data,
    })
    for (const layer of [matched, ...(matched.others ?? [])]) insert(layer, weight, isHalf)
  }
  return model.toBytes()
}

function insert({ outputNode, input }: LinearLayer, weight: string, isHalf: boolean): void {
  const [output] = outputNode.outputs as [string]
  const name = (end: string) => `${output}.dense.${end}`
  const cast = (value: string, output: string, dataType: number) => ({
    opType: 'Cast',
    inputs: [value],
    outputs: [output],
    attributes: { to: { int: dataType } },
  })
  const sum = (base: string, change: string, output: string) => ({
    opType: 'Add',
    inputs: [base, change],
    outputs: [output],
  })
  const product = (x: string) => ({ opType: 'MatMul', inputs: [x, weight], outputs: [name('change')] })
  outputNode.setOutput(0, name('base'))
  outputNode.graph.insertAfter(
    outputNode,
    isHalf
      ? [
          cast(input, name('x'), DataType.float),
          product(name('x')),
          cast(name('base'), name('wide'), DataType.float),
          sum(name('wide'), name('change'), name('sum')),
          cast(name('sum'), output, DataType.float16),
        ]
      : [product(input), sum(name('base'), name('change'), output)],
  )
}

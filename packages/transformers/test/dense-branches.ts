/**
 * The same adapters the long way: ΔW, as `@fourierft/core` computes it, as a constant of the file, and a product with it beside each layer. What
 * a quantised base gives with an exact branch is what such a file gives.
 */
import { type Adapter, delta } from '@fourierft/core'
import { DataType, findLinearLayers, type LinearLayer, matchLayers, readModel } from '@fourierft/onnx'

/**
 * @param isHalf whether the layers compute in float16
 * @param part of a model of several files: what the names of this file's modules begin with
 */
export function withDenseBranches(
  bytes: Uint8Array,
  adapter: Adapter,
  isHalf: boolean,
  part = '',
): Uint8Array {
  const model = readModel(bytes, { file: 'model.onnx' })
  const layers = findLinearLayers(model)
  for (const name of adapter.modules.keys()) {
    if (!name.startsWith(part)) continue
    const found = matchLayers(layers, [name]).matched.get(name)
    if (!found) throw new Error(`no layer ${name}`)
    const { outFeatures, inFeatures } = found
    const change = delta(adapter.layer(name, [outFeatures, inFeatures]))
    const turned = new Float32Array(change.length)
    for (let o = 0; o < outFeatures; o++)
      for (let i = 0; i < inFeatures; i++) turned[i * outFeatures + o] = change[o * inFeatures + i]
    const weight = `dense.${name}`
    const data = new Uint8Array(turned.buffer)
    model.graph.addInitializer({
      name: weight,
      dims: [inFeatures, outFeatures],
      dataType: DataType.float,
      data,
    })
    for (const layer of [found, ...(found.others ?? [])]) insert(layer, weight, isHalf)
  }
  return model.toBytes()
}

function insert({ outputNode, input }: LinearLayer, weight: string, isHalf: boolean): void {
  const [output] = outputNode.outputs as [string]
  const name = (end: string) => `${output}.dense.${end}`
  const cast = (from: string, to: string, dataType: number) => ({
    opType: 'Cast',
    inputs: [from],
    outputs: [to],
    attributes: { to: { int: dataType } },
  })
  const sum = (base: string, change: string, to: string) => ({
    opType: 'Add',
    inputs: [base, change],
    outputs: [to],
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

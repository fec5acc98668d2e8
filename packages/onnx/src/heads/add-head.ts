/** `addHead`: adds pooling and a classifier to a model that was exported without them. Adapters have their weights (PEFT's `modules_to_save`). */
import type { OnnxModel } from '../model/model.js'
import { NodeList } from '../model/node-list.js'
import { DataType } from '../model/schema.js'
import { type Head, LOGITS } from './head.js'

/**
 * Adds the head's nodes and the output `logits`, float32 `[batch, labels]` or `[batch, tokens, labels]`. The weights in the file are placeholders: zeros,
 * for one label. Adapters replace them.
 *
 * @throws {FourierFTError} `INVALID_OPTION` if the model has an output or a value of these names
 */
export function addHead({ graph, opsetImports }: OnnxModel, head: Head): void {
  const { input, features, pooling, hidden, output } = head
  const prefix = 'new_head.'
  const list = new NodeList(prefix)
  const { add, constant } = list
  /** Adds a linear layer. Its node has the name that PyTorch's exporter would give it, from which the layer's module is read. */
  const linear = (x: string, module: string, [out, inner]: readonly [number, number], result?: string) => {
    const tensor = (name: string, dims: readonly number[]) => {
      const data = new Uint8Array(dims.reduce((product, size) => product * size, 4))
      graph.addInitializer({ name: prefix + name, dims, dataType: DataType.float, data })
      return prefix + name
    }
    const product = `${prefix}${module}`
    list.nodes.push({
      name: `/${module.replaceAll('.', '/')}/MatMul`,
      opType: 'MatMul',
      inputs: [x, tensor(`${module}.weight_transposed`, [inner, out])],
      outputs: [product],
    })
    const inputs = [product, tensor(`${module}.bias`, [out])]
    if (result === undefined) return add('Add', inputs)
    list.named([result], 'Add', inputs)
    return result
  }
  const axis = { axis: { int: 1 } }
  const first = (x: string) => add('Gather', [x, constant([0], [])], axis)
  const meanOfOthers = (x: string) => {
    const others = add('Slice', [x, constant([1]), constant([2 ** 53]), constant([1])])
    const keepdims = { keepdims: { int: 0 } }
    // Since opset 18 the axes are an input.
    return (opsetImports.get('') ?? 0) < 18
      ? add('ReduceMean', [others], { axes: { ints: [1] }, ...keepdims })
      : add('ReduceMean', [others, constant([1])], keepdims)
  }
  let x = add('Cast', [input], { to: { int: DataType.float } })
  if (pooling === 'first') x = first(x)
  else if (pooling === 'first and mean') x = add('Concat', [first(x), meanOfOthers(x)], axis)
  if (hidden) {
    x = linear(x, hidden.module, [features, features])
    x = hidden.activation === 'Gelu' ? gelu(list, x) : add(hidden.activation, [x])
  }
  linear(x, output, [1, pooling === 'first and mean' ? 2 * features : features], LOGITS)
  const last = graph.nodes.at(-1)
  if (last) graph.insertAfter(last, list.nodes)
  const batch = graph.outputs.find(({ name }) => name === input)?.dims?.[0] ?? 'batch'
  const dims = pooling === 'every' ? [batch, 'tokens', 1] : [batch, 1]
  graph.addOutput({ name: LOGITS, dataType: DataType.float, dims })
}

/** GELU without approximation: x/2 · (1 + erf(x/√2)). */
function gelu({ add }: NodeList, x: string): string {
  const number = (value: number) => {
    const data = new Uint8Array(Float32Array.of(value).buffer)
    return add('Constant', [], { value: { tensor: { dims: [], dataType: DataType.float, data } } })
  }
  const erf = add('Erf', [add('Mul', [x, number(Math.SQRT1_2)])])
  return add('Mul', [add('Mul', [x, number(0.5)]), add('Add', [erf, number(1)])])
}

/** Makes ONNX models of chains of linear layers: frozen, with LoRA or FourierFT, and with explicit backward passes, because ONNX Runtime has no gradients. */
import { uniformEntries } from '@fourierft/core'
import {
  branchFunction,
  branchTables,
  createModel,
  DataType,
  DOMAIN,
  GRADIENT_TABLE_NAMES,
  gradientFunction,
  gradientTables,
  type NewNode,
  type NewTensor,
  type NewValue,
  TABLE_NAMES,
} from '@fourierft/onnx'

/** A chain of layers of `d × d`, each with its own weight. */
export interface Chain {
  readonly d: number
  readonly layers: number
}

export type Method = 'frozen' | 'LoRA' | 'FourierFT'

/** The rank of LoRA. */
const R = 8
const OPSET = 17

/** Returns the module name of a layer. */
export const moduleOf = (layer: number) => `layers.${layer}.linear`

/** Makes a model with the input `x [tokens, d]`. Its output is the first row of `y` (see `firstRow`). LoRA's matrices are constants, as in a deployed model. `createSession` adds FourierFT to the frozen model. */
export function servingModel({ d, layers }: Chain, method: 'frozen' | 'LoRA'): Uint8Array {
  const graph = new Graph()
  graph.input('x', ['tokens', d])
  let x = 'x'
  for (let i = 0; i < layers; i++) {
    const base = graph.add(`/layers.${i}/linear/MatMul`, 'MatMul', [x, graph.weight(`weight${i}`, d, d)])
    if (method === 'LoRA') {
      const u = graph.add(`u${i}`, 'MatMul', [x, graph.weight(`lora_a${i}`, d, R)])
      x = graph.add(`y${i}`, 'Add', [
        base,
        graph.add(`v${i}`, 'MatMul', [u, graph.weight(`lora_b${i}`, R, d)]),
      ])
    } else x = base
  }
  return graph.toBytes([graph.firstRow(x)])
}

/**
 * Makes a model with the inputs `x`, `g` (the gradient of the last layer's output) and the method's parameters. Its outputs are the first rows of
 * `y` and of the gradient of `x`, and the gradients of the parameters.
 */
export function trainingModel({ d, layers }: Chain, method: Method, n: number): Uint8Array {
  const graph = new Graph()
  graph.input('x', ['tokens', d])
  graph.input('g', ['tokens', d])
  if (method === 'FourierFT') {
    graph.inputs.push({ name: 'rows', dataType: DataType.int64, dims: ['rows'] })
    graph.addTables(d, n, true)
  }
  const inputs = ['x']
  for (let i = 0; i < layers; i++) {
    const x = inputs[i]
    const base = graph.add(`base${i}`, 'MatMul', [x, graph.weight(`weight${i}`, d, d)])
    if (method === 'FourierFT')
      inputs.push(
        graph.add(
          `y${i}`,
          'FourierFT',
          [x, base, graph.input(`c${i}`, [1, n]), 'rows', ...TABLE_NAMES],
          {},
          DOMAIN,
        ),
      )
    else if (method === 'LoRA') {
      const u = graph.add(`u${i}`, 'MatMul', [x, graph.input(`a${i}`, [d, R])])
      inputs.push(graph.add(`y${i}`, 'Gemm', [u, graph.input(`b${i}`, [R, d]), base]))
    } else inputs.push(base)
  }
  let g = 'g'
  const trained: string[] = []
  for (let i = layers - 1; i >= 0; i--) {
    const x = inputs[i]
    const base = graph.add(`back${i}`, 'MatMul', [g, graph.weight(`transposed${i}`, d, d)])
    if (method === 'FourierFT') {
      const [gradC, gradX] = graph.addGradient(i, x, g, base, `c${i}`)
      trained.push(gradC)
      g = gradX
    } else if (method === 'LoRA') {
      const gradU = graph.add(`grad_u${i}`, 'Gemm', [g, `b${i}`], { transB: { int: 1 } })
      trained.push(graph.add(`grad_b${i}`, 'Gemm', [`u${i}`, g], { transA: { int: 1 } }))
      trained.push(graph.add(`grad_a${i}`, 'Gemm', [x, gradU], { transA: { int: 1 } }))
      g = graph.add(`grad_x${i}`, 'Gemm', [gradU, `a${i}`, base], { transB: { int: 1 } })
    } else g = base
  }
  return graph.toBytes([graph.firstRow(inputs[layers]), graph.firstRow(g), ...trained])
}

/**
 * Makes a chain of branches without the products of the layers, to measure only the operators. Each branch is added to the sum of the branches
 * before it. With `training`, each branch also computes its gradients for `g`, and adds its gradient of `x` to that of the branch before it.
 */
export function branchesModel({ d, layers }: Chain, n: number, training = false): Uint8Array {
  const graph = new Graph()
  for (const name of training ? ['x', 'z', 'g'] : ['x', 'z']) graph.input(name, ['tokens', d])
  graph.inputs.push({ name: 'rows', dataType: DataType.int64, dims: ['rows'] })
  graph.input('c', ['adapters', n])
  graph.addTables(d, n, training)
  let [y, base] = ['z', 'z']
  const trained: string[] = []
  for (let i = 0; i < layers; i++) {
    y = graph.add(`y${i}`, 'FourierFT', ['x', y, 'c', 'rows', ...TABLE_NAMES], {}, DOMAIN)
    if (!training) continue
    const [gradC, gradX] = graph.addGradient(i, 'x', 'g', base, 'c')
    trained.push(gradC)
    base = gradX
  }
  return graph.toBytes([graph.firstRow(y), ...(training ? [graph.firstRow(base)] : []), ...trained])
}

/** Returns random numbers in `[−scale, scale]`. */
export function noise(length: number, scale = 1): Float32Array {
  return Float32Array.from({ length }, () => scale * (2 * Math.random() - 1))
}

class Graph {
  readonly nodes: NewNode[] = []
  readonly inputs: NewValue[] = []
  readonly initializers: NewTensor[] = []

  /** Adds a node with one output of the same name. */
  add(
    name: string,
    opType: string,
    inputs: readonly string[],
    attributes: NewNode['attributes'] = {},
    domain = '',
  ): string {
    this.nodes.push({ name, opType, domain, inputs, outputs: [name], attributes })
    return name
  }

  /** Adds the tables of the operator, and with `training` those of its gradient, for the entries that PEFT samples. */
  addTables(d: number, n: number, training: boolean): void {
    const entries = uniformEntries({ shape: [d, d], n, seed: 777 })
    const tables = [...branchTables(entries, ''), ...(training ? gradientTables(entries, '') : [])]
    this.initializers.push(...new Map(tables.map((table) => [table.name, table])).values())
  }

  /** Adds the gradient operator. @returns the names of the gradients of the coefficients and of `x`, added to the base */
  addGradient(layer: number, x: string, g: string, base: string, coefficients: string): [string, string] {
    const outputs = [`grad_c${layer}`, `grad_x${layer}`] satisfies [string, string]
    const inputs = [x, g, base, coefficients, 'rows', ...GRADIENT_TABLE_NAMES]
    this.nodes.push({ opType: 'FourierFTGrad', domain: DOMAIN, inputs, outputs })
    return outputs
  }

  /**
   * Outputs one row of a value that is computed for all rows. In a model, the output of a layer stays in ONNX Runtime's memory, so copying it
   * to JavaScript must not count as a cost of the layer.
   */
  firstRow(value: string): string {
    const integer = (name: string, number: number) => {
      const data = new Uint8Array(BigInt64Array.of(BigInt(number)).buffer)
      if (!this.initializers.some((initializer) => initializer.name === name))
        this.initializers.push({ name, dims: [1], dataType: DataType.int64, data })
      return name
    }
    return this.add(`row of ${value}`, 'Slice', [
      value,
      integer('from', 0),
      integer('to', 1),
      integer('axis', 0),
    ])
  }

  input(name: string, dims: readonly (number | string)[]): string {
    this.inputs.push({ name, dataType: DataType.float, dims })
    return name
  }

  /** Adds a random weight, scaled so that a product keeps the size of its rows. */
  weight(name: string, rows: number, columns: number): string {
    const { buffer } = noise(rows * columns, Math.sqrt(3 / rows))
    this.initializers.push({
      name,
      dims: [rows, columns],
      dataType: DataType.float,
      data: new Uint8Array(buffer),
    })
    return name
  }

  toBytes(outputs: readonly string[]): Uint8Array {
    const { nodes, inputs, initializers } = this
    const values = outputs.map((name) => ({
      name,
      dataType: DataType.float,
      dims: [`${name}_0`, `${name}_1`],
    }))
    const model = createModel(
      { name: 'chain', nodes, inputs, outputs: values, initializers },
      { opset: OPSET },
    )
    if (nodes.some(({ domain }) => domain === DOMAIN)) {
      model.addOpsetImport(DOMAIN, 1)
      model.addFunction(branchFunction(OPSET))
      model.addFunction(gradientFunction(OPSET))
    }
    return model.toBytes()
  }
}

/**
 * A graph, its nodes, tensors and values: what is there, and the few edits that adapters need. A node whose output is renamed and
 * followed by a new node of the old name is adapted without touching one consumer, be it in a subgraph or outside the model.
 */
import { FourierFTError } from '@fourierft/core'
import {
  encodeNode,
  encodeTensor,
  encodeValue,
  type NewNode,
  type NewTensor,
  type NewValue,
} from './encode.js'
import {
  Attribute,
  Dimension,
  Entry,
  Graph,
  Node,
  Shape,
  Tensor,
  TensorType,
  Type,
  ValueInfo,
} from './schema.js'
import { type OnnxTensor, readTensor } from './tensor.js'
import { field, malformed, type WireField, type WireMessage } from './wire-message.js'

/** Exporters nest two or three subgraphs; far deeper ones are an attack on the stack. */
const MAX_DEPTH = 64

/** What is known of a value; `undefined` stands for what the file leaves open. */
export interface OnnxValue {
  readonly name: string
  /** A number of {@link DataType}; undefined: no tensor, or not said. */
  readonly dataType: number | undefined
  /** A number is a fixed size, a text a named one; undefined as a whole: the rank is open. */
  readonly dims: readonly (number | string | undefined)[] | undefined
}

/** An attribute: the fields that the file has set. */
export interface OnnxAttribute {
  readonly float?: number
  readonly int?: bigint
  readonly string?: string
  readonly ints: readonly bigint[]
  readonly floats: readonly number[]
  readonly tensor?: OnnxTensor
  /** The name of the attribute of the function around the node. */
  readonly reference?: string
}

export class OnnxNode {
  readonly graph: OnnxGraph
  readonly name: string
  readonly opType: string
  /** `''` is ONNX's own domain. */
  readonly domain: string
  /** The graphs inside of it, such as the branches of `If`. */
  readonly subgraphs: readonly OnnxGraph[]
  /** @internal The field of the graph that holds it. */
  readonly field: WireField
  readonly #message: WireMessage
  readonly #where: string
  /** Read once: who looks for readers of a value asks every node. */
  #inputs: readonly string[] | undefined
  #outputs: readonly string[] | undefined

  constructor(graph: OnnxGraph, source: WireField, where: string) {
    this.graph = graph
    this.field = source
    this.#message = source.message(where)
    this.name = this.#message.last(Node.name)?.text(where) ?? ''
    this.opType = this.#message.last(Node.opType)?.text(where) ?? ''
    const domain = this.#message.last(Node.domain)?.text(where) ?? ''
    this.domain = domain === 'ai.onnx' ? '' : domain
    this.#where = `node ${JSON.stringify(this.name)} (${this.opType}) of ${graph.file}`
    this.subgraphs = this.#message.all(Node.attribute).flatMap((attribute) => {
      const parts = attribute.message(this.#where)
      const name = parts.last(Attribute.name)?.text(this.#where) ?? ''
      return [...parts.all(Attribute.g), ...parts.all(Attribute.graphs)].map(
        (body) =>
          new OnnxGraph(body.message(this.#where), graph.file, `${graph.path}/${this.name}.${name}`, graph),
      )
    })
  }

  /** `''` is an optional input that is left out. */
  get inputs(): readonly string[] {
    this.#inputs ??= this.#texts(Node.input)
    return this.#inputs
  }

  get outputs(): readonly string[] {
    this.#outputs ??= this.#texts(Node.output)
    return this.#outputs
  }

  attribute(name: string): OnnxAttribute | undefined {
    const where = this.#where
    const found = this.#message
      .all(Node.attribute)
      .map((one) => one.message(where))
      .find((parts) => parts.last(Attribute.name)?.text(where) === name)
    if (!found) return undefined
    const [float] = found.last(Attribute.f)?.floats(where) ?? []
    const [int] = found.last(Attribute.i)?.integers(where) ?? []
    const string = found.last(Attribute.s)?.text(where)
    const tensor = found.last(Attribute.t)?.message(where)
    const reference = found.last(Attribute.reference)?.text(where)
    return {
      ...(float === undefined ? {} : { float }),
      ...(int === undefined ? {} : { int }),
      ...(string === undefined ? {} : { string }),
      ints: found.all(Attribute.ints).flatMap((one) => one.integers(where)),
      floats: found.all(Attribute.floats).flatMap((one) => one.floats(where)),
      ...(tensor === undefined ? {} : { tensor: readTensor(tensor, this.graph.file) }),
      ...(reference === undefined ? {} : { reference }),
    }
  }

  /** `metadata_props`: where PyTorch's new exporter puts the names of modules. */
  get metadata(): ReadonlyMap<string, string> {
    return readEntries(this.#message.all(Node.metadata), this.#where)
  }

  /** Lets the node read another value. @throws FourierFTError INVALID_OPTION: no such input */
  setInput(index: number, name: string): void {
    this.#rename(Node.input, index, name)
  }

  /** Names an output anew; who reads the old name goes on reading it. @throws FourierFTError INVALID_OPTION: no such output */
  setOutput(index: number, name: string): void {
    this.#rename(Node.output, index, name)
  }

  /** @returns names of inputs and outputs, and graphs inside, are read again as they are now; the wire is put back before that */
  saved(): () => void {
    const restore = this.subgraphs.map((inner) => inner.saved())
    return () => {
      this.#inputs = undefined
      this.#outputs = undefined
      for (const each of restore) each()
    }
  }

  #texts(number: number): string[] {
    return this.#message.all(number).map((one) => one.text(this.#where))
  }

  #rename(number: number, index: number, name: string): void {
    const old = this.#message.all(number)[index]
    if (!old)
      throw new FourierFTError(
        'INVALID_OPTION',
        `The ${this.#where} has no ${number === Node.input ? 'input' : 'output'} ${index}.`,
        { file: this.graph.file, option: 'index', received: index },
      )
    this.#message.replace(old, field(number, name))
    this.#inputs = undefined
    this.#outputs = undefined
  }
}

/** The main graph, or one inside of a node. */
export class OnnxGraph {
  readonly file: string
  /** `''` for the main graph, `/node.attribute` for what is inside. */
  readonly path: string
  readonly parent: OnnxGraph | undefined
  #nodes: OnnxNode[]
  readonly #message: WireMessage
  readonly #where: string
  readonly #initializers: Map<string, OnnxTensor>

  constructor(message: WireMessage, file: string, path = '', parent?: OnnxGraph) {
    this.file = file
    this.path = path
    this.parent = parent
    this.#message = message
    this.#where = path === '' ? file : `graph ${path} of ${file}`
    if (depth(parent) > MAX_DEPTH) throw malformed(file, `graphs are nested more than ${MAX_DEPTH} deep`)
    this.#nodes = message
      .all(Graph.node)
      .map((one, i) => new OnnxNode(this, one, `node ${i} of ${this.#where}`))
    this.#initializers = new Map()
    for (const one of message.all(Graph.initializer)) {
      const tensor = readTensor(one.message(`a tensor of ${this.#where}`), this.#where)
      this.#initializers.set(tensor.name, tensor)
    }
  }

  /** In the order of the file, which ONNX demands to be one of execution. */
  get nodes(): readonly OnnxNode[] {
    return this.#nodes
  }

  /** The tensors that the file holds or refers to, by name. A subgraph also sees those of the graphs around it. */
  get initializers(): ReadonlyMap<string, OnnxTensor> {
    return this.#initializers
  }

  /** Old models (IR version 3) name initializers here too. */
  get inputs(): readonly OnnxValue[] {
    return this.#values(Graph.input)
  }

  get outputs(): readonly OnnxValue[] {
    return this.#values(Graph.output)
  }

  /** What the exporter knew of values inside. */
  get valueInfos(): readonly OnnxValue[] {
    return this.#values(Graph.valueInfo)
  }

  /** This graph and all inside of it, outermost first. */
  graphs(): OnnxGraph[] {
    return [this, ...this.#nodes.flatMap((node) => node.subgraphs.flatMap((inner) => inner.graphs()))]
  }

  /** The nodes that read a value, here and in the graphs inside that see it. */
  consumersOf(name: string): OnnxNode[] {
    const readers: OnnxNode[] = []
    for (const node of this.#nodes) {
      if (node.inputs.includes(name)) readers.push(node)
      for (const inner of node.subgraphs) if (!inner.defines(name)) readers.push(...inner.consumersOf(name))
    }
    return readers
  }

  /**
   * Puts new nodes behind `node`, in the order given.
   *
   * @returns the new nodes, as the graph has them now
   */
  insertAfter(node: OnnxNode, made: readonly NewNode[]): OnnxNode[] {
    const at = this.#nodes.indexOf(node)
    if (at < 0)
      throw new FourierFTError(
        'INVALID_STATE',
        `${this.#where} has no node ${JSON.stringify(node.name)} of this object.`,
        {
          file: this.file,
        },
      )
    const fields = made.map((one) => field(Graph.node, encodeNode(one)))
    this.#message.insert(fields, node.field)
    const nodes = fields.map((one) => new OnnxNode(this, one, `a new node of ${this.#where}`))
    this.#nodes = [...this.#nodes.slice(0, at + 1), ...nodes, ...this.#nodes.slice(at + 1)]
    return nodes
  }

  /** Puts new nodes before `node`, in the order given. */
  insertBefore(node: OnnxNode, made: readonly NewNode[]): void {
    const fields = made.map((one) => field(Graph.node, encodeNode(one)))
    this.#message.replace(node.field, ...fields, node.field)
    const nodes = fields.map((one) => new OnnxNode(this, one, `a new node of ${this.#where}`))
    this.#nodes.splice(this.#nodes.indexOf(node), 0, ...nodes)
  }

  /** Puts new nodes, or one that comes back from a graph inside, in the place of `node`. */
  replaceNode(node: OnnxNode, made: readonly (NewNode | OnnxNode)[]): void {
    const at = this.#nodes.indexOf(node)
    const fields = made.map((one) => ('field' in one ? one.field : field(Graph.node, encodeNode(one))))
    this.#message.replace(node.field, ...fields)
    this.#nodes.splice(at, 1, ...fields.map((one) => new OnnxNode(this, one, `a new node of ${this.#where}`)))
  }

  /** @throws FourierFTError INVALID_OPTION: the name is taken */
  addInitializer(tensor: NewTensor & { readonly name: string }): OnnxTensor {
    this.#rejectTaken(tensor.name)
    const message = encodeTensor(tensor)
    this.#message.insert([field(Graph.initializer, message)])
    const added = readTensor(message, this.#where)
    this.#initializers.set(tensor.name, added)
    return added
  }

  /** @throws FourierFTError INVALID_OPTION: the name is taken */
  addInput(value: NewValue): void {
    this.#rejectTaken(value.name)
    this.#message.insert([field(Graph.input, encodeValue(value))], this.#message.last(Graph.input))
  }

  /** A name alone: the runtime infers the rest. @throws FourierFTError INVALID_OPTION: there is an output of that name */
  addOutput(value: NewValue | { readonly name: string }): void {
    if (this.outputs.some(({ name }) => name === value.name)) throw this.#taken(value.name)
    this.#message.insert([field(Graph.output, encodeValue(value))], this.#message.last(Graph.output))
  }

  /** Gives a value whose shape the file tells another last dimension. */
  setLastDim(name: string, size: number | string): void {
    const where = this.#where
    for (const one of [...this.#message.all(Graph.output), ...this.#message.all(Graph.valueInfo)]) {
      const value = one.message(where)
      if (value.last(ValueInfo.name)?.text(where) !== name) continue
      const tensor = value.last(ValueInfo.type)?.message(where).last(Type.tensor)?.message(where)
      const dim = tensor?.last(TensorType.shape)?.message(where).last(Shape.dim)?.message(where)
      const old = dim?.last(Dimension.value) ?? dim?.last(Dimension.parameter)
      if (old)
        dim?.replace(old, field(typeof size === 'number' ? Dimension.value : Dimension.parameter, size))
    }
  }

  /** Takes nodes of this graph away. Who reads their outputs has to read something else by then. */
  removeNodes(nodes: readonly OnnxNode[]): void {
    const gone = new Set(nodes)
    this.#message.remove(nodes.map((node) => node.field))
    this.#nodes = this.#nodes.filter((node) => !gone.has(node))
  }

  removeInitializers(names: ReadonlySet<string>): void {
    const where = this.#where
    this.#message.remove(
      this.#message.all(Graph.initializer).filter((one) => {
        const name = one.message(where).last(Tensor.name)?.text(where)
        return name !== undefined && names.has(name)
      }),
    )
    for (const name of names) this.#initializers.delete(name)
  }

  removeInputs(names: ReadonlySet<string>): void {
    const where = this.#where
    this.#message.remove(
      this.#message.all(Graph.input).filter((one) => names.has(readValue(one.message(where), where).name)),
    )
  }

  /** @returns puts nodes and initializers back as they are now */
  saved(): () => void {
    const [nodes, initializers] = [[...this.#nodes], [...this.#initializers]]
    const restore = nodes.map((node) => node.saved())
    return () => {
      this.#nodes = nodes
      this.#initializers.clear()
      for (const [name, tensor] of initializers) this.#initializers.set(name, tensor)
      for (const each of restore) each()
    }
  }

  #rejectTaken(name: string): void {
    if (this.defines(name)) throw this.#taken(name)
  }

  #taken(name: string): FourierFTError {
    return new FourierFTError(
      'INVALID_OPTION',
      `${this.#where} has a value ${JSON.stringify(name)} already; choose another name.`,
      { file: this.file, tensor: name },
    )
  }

  /** Whether the name is one of an initializer, an input or a node's output of this graph. */
  defines(name: string): boolean {
    return (
      this.#initializers.has(name) ||
      this.inputs.some((input) => input.name === name) ||
      this.#nodes.some((node) => node.outputs.includes(name))
    )
  }

  #values(number: number): OnnxValue[] {
    return this.#message.all(number).map((one) => readValue(one.message(this.#where), this.#where))
  }
}

function depth(graph: OnnxGraph | undefined): number {
  return graph === undefined ? 0 : 1 + depth(graph.parent)
}

function readValue(value: WireMessage, where: string): OnnxValue {
  const name = value.last(ValueInfo.name)?.text(where) ?? ''
  const tensor = value.last(ValueInfo.type)?.message(where).last(Type.tensor)?.message(where)
  const [dataType] = tensor?.last(TensorType.elementType)?.integers(where) ?? []
  const shape = tensor?.last(TensorType.shape)?.message(where)
  const dims = shape?.all(Shape.dim).map((one) => {
    const dim = one.message(where)
    const [size] = dim.last(Dimension.value)?.integers(where) ?? []
    return size === undefined ? dim.last(Dimension.parameter)?.text(where) : Number(size)
  })
  return { name, dataType: dataType === undefined ? undefined : Number(dataType), dims }
}

/** `StringStringEntryProto` fields as a map. */
export function readEntries(fields: readonly WireField[], where: string): Map<string, string> {
  return new Map(
    fields.map((one) => {
      const entry = one.message(where)
      return [entry.last(Entry.key)?.text(where) ?? '', entry.last(Entry.value)?.text(where) ?? '']
    }),
  )
}

/**
 * A graph and its nodes, and the few edits that adapters need. To adapt a node, rename its output and insert a new node that writes the old
 * name: no consumer changes, neither in subgraphs nor outside the model.
 */
import { FourierFTError } from '@fourierft/core'
import { type OnnxAttribute, readAttribute } from './attribute.js'
import {
  encodeNode,
  encodeTensor,
  encodeValue,
  type NewNode,
  type NewTensor,
  type NewValue,
} from './encode.js'
import { EditableIndex, type GraphIndex } from './graph-index.js'
import { invalidOnnx } from './invalid-onnx.js'
import type { MemoryBudget } from './memory-budget.js'
import { Attribute, Dimension, Graph, Node, Shape, Tensor, TensorType, Type, ValueInfo } from './schema.js'
import { readStringMap } from './string-map.js'
import { type OnnxTensor, readTensor, type TensorSource } from './tensor.js'
import { type OnnxValue, readValue } from './value.js'
import { field, type WireField, type WireMessage } from './wire-message.js'

/** Exporters nest two or three subgraphs; far deeper ones are an attack on the stack. */
const MAX_DEPTH = 64

/** Nodes without graphs inside share one empty list. */
const NO_GRAPHS: readonly OnnxGraph[] = []

export class OnnxNode {
  readonly graph: OnnxGraph
  readonly name: string = ''
  readonly opType: string = ''
  /** `''` is ONNX's own domain. */
  readonly domain: string = ''
  /** The graphs inside of it, such as the branches of `If`. */
  readonly subgraphs: readonly OnnxGraph[]
  /** @internal The field of the graph that holds it. */
  readonly field: WireField
  /** Read once: whoever looks for readers of a value asks every node. */
  #inputs: readonly string[] | undefined
  #outputs: readonly string[] | undefined

  /** @throws FourierFTError INVALID_ONNX: also for a node without an operator, and one that neither reads nor makes a value */
  constructor(graph: OnnxGraph, source: WireField) {
    this.graph = graph
    this.field = source
    let values = 0
    let hasGraphs = false
    const cursor = source.reading(this).cursor()
    while (cursor.next()) {
      const { number } = cursor
      if (number === Node.input || number === Node.output) values++
      else if (number === Node.name) this.name = cursor.text(this)
      else if (number === Node.opType) this.opType = cursor.text(this)
      else if (number === Node.domain) this.domain = cursor.text(this)
      else if (number === Node.attribute) hasGraphs = holdsGraphs(cursor.reading(this)) || hasGraphs
    }
    if (this.domain === 'ai.onnx') this.domain = ''
    if (this.opType === '') throw invalidOnnx(this, 'it has no operator type')
    if (values === 0) throw invalidOnnx(this, 'it has neither an input nor an output')
    graph.budget?.take('name', values, this)
    this.subgraphs = hasGraphs ? this.#graphsInside() : NO_GRAPHS
  }

  /** @internal What it is called in the message of an error. */
  get where(): string {
    return `node ${JSON.stringify(this.name)} (${this.opType}) of ${this.graph.where}`
  }

  #graphsInside(): OnnxGraph[] {
    const node = this.field.message(this)
    return node.all(Node.attribute).flatMap((field) => {
      const attribute = field.message(this)
      const path = `${this.graph.path}/${this.name}.${attribute.text(Attribute.name) ?? ''}`
      return [...attribute.all(Attribute.g), ...attribute.all(Attribute.graphs)].map(
        (body) => new OnnxGraph(body.message(this), this.graph.file, path, this.graph),
      )
    })
  }

  /** `''` is an optional input that is left out. */
  get inputs(): readonly string[] {
    return this.#inputs ?? this.#readValues().inputs
  }

  get outputs(): readonly string[] {
    return this.#outputs ?? this.#readValues().outputs
  }

  /** The attribute of that name; if a broken file has several, the first. */
  attribute(name: string): OnnxAttribute | undefined {
    const message = this.#findAttribute(name)
    return message && this.#readAttribute(name, message)
  }

  /** All attributes by name, in the order of the file. */
  get attributes(): ReadonlyMap<string, OnnxAttribute> {
    const attributes = new Map<string, OnnxAttribute>()
    const node = this.field.reading(this)
    this.graph.budget?.check('attribute', node.count(Node.attribute), this)
    const cursor = node.cursor()
    while (cursor.next(Node.attribute)) {
      const message = cursor.reading(this)
      const name = message.text(Attribute.name) ?? ''
      if (!attributes.has(name)) attributes.set(name, this.#readAttribute(name, message))
    }
    return attributes
  }

  #findAttribute(name: string): WireMessage | undefined {
    const cursor = this.field.reading(this).cursor()
    while (cursor.next(Node.attribute)) {
      const message = cursor.reading(this)
      if (message.text(Attribute.name) === name) return message
    }
    return undefined
  }

  #readAttribute(name: string, message: WireMessage): OnnxAttribute {
    const tensor = {
      read: () => this.#findAttribute(name)?.reading(Attribute.t),
      edit: () => {
        const attributes = this.field.message(this).all(Node.attribute)
        const attribute = attributes.find((one) => one.reading(this).text(Attribute.name) === name)
        return attribute?.message(this).last(Attribute.t)?.message(this)
      },
    }
    const { file, budget } = this.graph
    return readAttribute(message, tensor, { file, budget, where: this })
  }

  /** `metadata_props`: where PyTorch's new exporter puts the names of modules. */
  get metadata(): ReadonlyMap<string, string> {
    return readStringMap(this.field.reading(this), Node.metadata, this)
  }

  /** Lets the node read another value. @throws FourierFTError INVALID_OPTION: no such input */
  setInput(index: number, name: string): void {
    this.#rename(Node.input, index, name)
  }

  /** Names an output anew; readers of the old name still read that. @throws FourierFTError INVALID_OPTION: no such output */
  setOutput(index: number, name: string): void {
    this.#rename(Node.output, index, name)
  }

  /** @internal The names of inputs and outputs are read again when they are asked for. */
  forget(): void {
    this.#inputs = undefined
    this.#outputs = undefined
  }

  /** Both at once: whoever asks for one asks for the other too. */
  #readValues(): { readonly inputs: readonly string[]; readonly outputs: readonly string[] } {
    const inputs: string[] = []
    const outputs: string[] = []
    const cursor = this.field.reading(this).cursor()
    while (cursor.next()) {
      if (cursor.number === Node.input) inputs.push(cursor.text(this))
      else if (cursor.number === Node.output) outputs.push(cursor.text(this))
    }
    this.#inputs = inputs
    this.#outputs = outputs
    return { inputs, outputs }
  }

  #rename(number: number, index: number, name: string): void {
    const message = this.field.message(this)
    const old = message.all(number)[index]
    if (!old)
      throw new FourierFTError(
        'INVALID_OPTION',
        `The ${this.where} has no ${number === Node.input ? 'input' : 'output'} ${index}.`,
        { file: this.graph.file, option: 'index', received: index },
      )
    const kind = number === Node.input ? 'inputs' : 'outputs'
    const before = this[kind]
    message.replace(old, field(number, name))
    this.forget()
    this.graph.reindex(this, kind, before)
  }
}

/** The main graph, or one inside of a node. */
export class OnnxGraph {
  readonly file: string
  /** `''` for the main graph, `/node.attribute` for what is inside. */
  readonly path: string
  readonly parent: OnnxGraph | undefined
  readonly #message: WireMessage
  /** In the order of the file, unless the order is stale: new nodes are at the end then, and those that are gone still there. */
  #nodes: OnnxNode[] = []
  #isOrderStale = false
  readonly #initializers = new Map<string, OnnxTensor>()
  #index: EditableIndex<OnnxNode, OnnxGraph> | undefined
  #inputNames: Set<string> | undefined
  #outputNames: Set<string> | undefined
  #knownValues: Map<string, OnnxValue> | undefined
  /** The fields that new inputs and outputs are put behind. */
  #lastInput: WireField | undefined
  #lastOutput: WireField | undefined

  constructor(message: WireMessage, file: string, path = '', parent?: OnnxGraph) {
    this.file = file
    this.path = path
    this.parent = parent
    this.#message = message
    if (depth(parent) > MAX_DEPTH) throw invalidOnnx(file, `graphs are nested more than ${MAX_DEPTH} deep`)
    this.budget?.take('graph', 1, this)
    for (const one of message.fields()) {
      if (one.number === Graph.node) this.#nodes.push(this.#readNode(one))
      else if (one.number === Graph.initializer) this.#readInitializer(one)
    }
  }

  /** @internal What it is called in the message of an error. */
  get where(): string {
    return this.path === '' ? this.file : `graph ${this.path} of ${this.file}`
  }

  /** @internal */
  get budget(): MemoryBudget | undefined {
    return this.#message.budget
  }

  /** In the order of the file, which ONNX demands to be one of execution. */
  get nodes(): readonly OnnxNode[] {
    if (this.#isOrderStale) {
      const byField = new Map(this.#nodes.map((node) => [node.field, node]))
      this.#nodes = Array.from(this.#message.fields()).flatMap((one) => byField.get(one) ?? [])
      this.#isOrderStale = false
    }
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

  /** What the exporter knew of a value inside, or of an input. */
  valueInfo(name: string): OnnxValue | undefined {
    this.#knownValues ??= new Map([...this.inputs, ...this.valueInfos].map((value) => [value.name, value]))
    return this.#knownValues.get(name)
  }

  /** This graph and all inside of it, outermost first. */
  graphs(): OnnxGraph[] {
    return [this, ...this.nodes.flatMap((node) => node.subgraphs.flatMap((inner) => inner.graphs()))]
  }

  /** Which of its nodes make and read each value; edits keep it up to date. */
  get index(): GraphIndex<OnnxNode> {
    return this.#indexed()
  }

  /** The nodes that read a value, here and in the graphs inside that see it. */
  consumersOf(name: string): readonly OnnxNode[] {
    const index = this.#indexed()
    const own = index.consumers.get(name) ?? []
    const inside: OnnxNode[] = []
    for (const inner of index.inside(name))
      if (!inner.defines(name)) for (const node of inner.consumersOf(name)) inside.push(node)
    return inside.length > 0 ? [...own, ...inside] : own
  }

  /** @internal The names of all values that its nodes read, and those of the graphs inside. */
  namesRead(): Iterable<string> {
    return this.#indexed().namesRead()
  }

  /** Whether it gives the value to what is around it. */
  isOutput(name: string): boolean {
    this.#outputNames ??= this.#namesOf(Graph.output)
    return this.#outputNames.has(name)
  }

  /**
   * Puts new nodes behind `node`, in the order given.
   *
   * @returns the new nodes, as the graph has them now
   * @throws FourierFTError INVALID_STATE: the node is not one of this graph
   */
  insertAfter(node: OnnxNode, made: readonly NewNode[]): OnnxNode[] {
    this.#checkOwn(node)
    return this.#added(this.#message.insert(made.map(nodeField), node.field))
  }

  /** Puts new nodes before `node`, in the order given. @throws FourierFTError as {@link insertAfter} */
  insertBefore(node: OnnxNode, made: readonly NewNode[]): void {
    this.#checkOwn(node)
    this.#added(this.#message.insertBefore(made.map(nodeField), node.field))
  }

  /** Puts new nodes, or one that comes back from a graph inside, in the place of `node`. @throws FourierFTError as {@link insertAfter} */
  replaceNode(node: OnnxNode, made: readonly (NewNode | OnnxNode)[]): void {
    this.#checkOwn(node)
    // The graphs inside of a node are not taken out of the index one by one.
    if (node.subgraphs.length > 0) this.#index = undefined
    else this.#index?.remove(node)
    const fields = made.map((one) => ('field' in one ? one.field : nodeField(one)))
    this.#added(this.#message.replace(node.field, ...fields))
  }

  /** @throws FourierFTError INVALID_OPTION: the name is taken */
  addInitializer(tensor: NewTensor & { readonly name: string }): OnnxTensor {
    this.#rejectTaken(tensor.name)
    const [added] = this.#message.insert([field(Graph.initializer, encodeTensor(tensor))]) as [WireField]
    return this.#readInitializer(added)
  }

  /** @throws FourierFTError INVALID_OPTION: the name is taken */
  addInput(value: NewValue): void {
    this.#rejectTaken(value.name)
    const after = this.#lastInput ?? this.#message.last(Graph.input)
    ;[this.#lastInput] = this.#message.insert([field(Graph.input, encodeValue(value))], after)
    this.#inputNames?.add(value.name)
    this.#knownValues = undefined
  }

  /** A name alone: the runtime infers the rest. @throws FourierFTError INVALID_OPTION: there is an output of that name */
  addOutput(value: NewValue | { readonly name: string }): void {
    if (this.isOutput(value.name)) throw this.#taken(value.name)
    const after = this.#lastOutput ?? this.#message.last(Graph.output)
    ;[this.#lastOutput] = this.#message.insert([field(Graph.output, encodeValue(value))], after)
    this.#outputNames?.add(value.name)
  }

  /** Gives a value whose shape the file tells another last dimension. */
  setLastDim(name: string, size: number | string): void {
    for (const one of [...this.#message.all(Graph.output), ...this.#message.all(Graph.valueInfo)]) {
      if (one.reading(this).text(ValueInfo.name) !== name) continue
      const tensor = one.message(this).last(ValueInfo.type)?.message(this).last(Type.tensor)?.message(this)
      const dim = tensor?.last(TensorType.shape)?.message(this).last(Shape.dim)?.message(this)
      const old = dim?.last(Dimension.value) ?? dim?.last(Dimension.parameter)
      if (old)
        dim?.replace(old, field(typeof size === 'number' ? Dimension.value : Dimension.parameter, size))
    }
    this.#knownValues = undefined
  }

  /** Takes nodes of this graph away. Whatever reads their outputs has to read something else by then. */
  removeNodes(nodes: readonly OnnxNode[]): void {
    this.#message.remove(nodes.map((node) => node.field))
    this.#isOrderStale = true
    // Made again when it is needed: nodes may be many, and so may be those beside each of them in the index.
    this.#index = undefined
  }

  removeInitializers(names: ReadonlySet<string>): void {
    const fields = this.#message.all(Graph.initializer)
    this.#message.remove(fields.filter((one) => names.has(one.reading(this).text(Tensor.name) ?? '')))
    for (const name of names) this.#initializers.delete(name)
  }

  removeInputs(names: ReadonlySet<string>): void {
    const fields = this.#message.all(Graph.input)
    this.#message.remove(fields.filter((one) => names.has(one.reading(this).text(ValueInfo.name) ?? '')))
    this.#forgetValues()
  }

  /** @returns puts nodes and initializers back as they are now; the wire is put back before that */
  saved(): () => void {
    const [nodes, initializers] = [[...this.nodes], [...this.#initializers]]
    const restore = nodes.flatMap((node) => node.subgraphs.map((inner) => inner.saved()))
    return () => {
      this.#nodes = nodes
      this.#isOrderStale = false
      this.#index = undefined
      this.#forgetValues()
      for (const node of nodes) node.forget()
      this.#initializers.clear()
      for (const [name, tensor] of initializers) this.#initializers.set(name, tensor)
      for (const each of restore) each()
    }
  }

  /** Whether the name is one of an initializer, an input or a node's output of this graph. */
  defines(name: string): boolean {
    this.#inputNames ??= this.#namesOf(Graph.input)
    return (
      this.#initializers.has(name) ||
      this.#inputNames.has(name) ||
      this.index.producers.get(name) !== undefined
    )
  }

  /** @internal The node had other inputs or outputs before. */
  reindex(node: OnnxNode, kind: 'inputs' | 'outputs', before: readonly string[]): void {
    this.#index?.update(node, kind, before)
    if (kind === 'inputs') this.#tellAround(node.inputs)
  }

  #indexed(): EditableIndex<OnnxNode, OnnxGraph> {
    this.#index ??= new EditableIndex(this.nodes)
    return this.#index
  }

  /** The graphs around learn what is read here. */
  #tellAround(names: Iterable<string>): void {
    for (let inner: OnnxGraph = this; inner.parent; inner = inner.parent) {
      const around = inner.parent.#index
      if (around) for (const name of names) around.noteInside(name, inner)
    }
  }

  #added(fields: readonly WireField[]): OnnxNode[] {
    const nodes = fields.map((one) => this.#readNode(one))
    for (const node of nodes) {
      this.#nodes.push(node)
      this.#index?.add(node)
      if (this.parent) for (const names of [node.inputs, ...namesInside(node)]) this.#tellAround(names)
    }
    this.#isOrderStale = true
    return nodes
  }

  #readNode(source: WireField): OnnxNode {
    this.budget?.take('node', 1, this)
    return new OnnxNode(this, source)
  }

  #readInitializer(source: WireField): OnnxTensor {
    this.budget?.take('tensor', 1, this)
    const tensor = readTensor(new FieldOfTensor(source, this), this.where)
    this.#initializers.set(tensor.name, tensor)
    return tensor
  }

  #checkOwn(node: OnnxNode): void {
    if (node.field.owner !== this.#message)
      throw new FourierFTError(
        'INVALID_STATE',
        `${this.where} has no node ${JSON.stringify(node.name)} of this object.`,
        { file: this.file },
      )
  }

  #rejectTaken(name: string): void {
    if (this.defines(name)) throw this.#taken(name)
  }

  #taken(name: string): FourierFTError {
    return new FourierFTError(
      'INVALID_OPTION',
      `${this.where} has a value ${JSON.stringify(name)} already; choose another name.`,
      { file: this.file, tensor: name },
    )
  }

  #forgetValues(): void {
    this.#inputNames = undefined
    this.#outputNames = undefined
    this.#knownValues = undefined
    this.#lastInput = undefined
    this.#lastOutput = undefined
  }

  #namesOf(number: number): Set<string> {
    const names = new Set<string>()
    const cursor = this.#message.cursor()
    while (cursor.next(number)) names.add(cursor.reading(this).text(ValueInfo.name) ?? '')
    this.budget?.take('entry', names.size, this)
    return names
  }

  #values(number: number): OnnxValue[] {
    this.budget?.check('value', this.#message.count(number), this)
    const values: OnnxValue[] = []
    const cursor = this.#message.cursor()
    while (cursor.next(number)) values.push(readValue(cursor.reading(this), this))
    return values
  }
}

/** Where an initializer is. */
class FieldOfTensor implements TensorSource {
  readonly #field: WireField
  readonly #graph: OnnxGraph

  constructor(field: WireField, graph: OnnxGraph) {
    this.#field = field
    this.#graph = graph
  }

  read(): WireMessage {
    return this.#field.reading(this.#graph)
  }

  edit(): WireMessage {
    return this.#field.message(this.#graph)
  }
}

const namesInside = ({ subgraphs }: OnnxNode) => subgraphs.map((graph) => Array.from(graph.namesRead()))

const nodeField = (made: NewNode) => field(Graph.node, encodeNode(made))

function holdsGraphs(attribute: WireMessage): boolean {
  return attribute.count(Attribute.g) + attribute.count(Attribute.graphs) > 0
}

function depth(graph: OnnxGraph | undefined): number {
  return graph === undefined ? 0 : 1 + depth(graph.parent)
}

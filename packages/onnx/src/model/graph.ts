/**
 * A graph and its nodes, and the few edits that adapters need. To adapt a node, rename its output and insert a new node that writes the old
 * name: no consumer changes, neither in subgraphs nor outside the model.
 */
import { FourierFTError } from '@fourierft/core'
import { type OnnxAttribute, readAttribute } from './attribute.js'
import {
  type ExistingNode,
  encodeAttribute,
  encodeNode,
  encodeTensor,
  encodeValue,
  type NewAttribute,
  type NewNode,
  type NewTensor,
  type NewValue,
} from './encode.js'
import { EditableIndex, type GraphIndex } from './graph-index.js'
import { invalidOnnx } from './invalid-onnx.js'
import type { MemoryBudget } from './memory-budget.js'
import { renameNode, renameValue, renameValues } from './rename-values.js'
import { Attribute, Dimension, Graph, Node, Shape, Tensor, TensorType, Type, ValueInfo } from './schema.js'
import { readStringMap } from './string-map.js'
import { type OnnxTensor, readTensor, type TensorSource } from './tensor.js'
import { type OnnxValue, readValue } from './value.js'
import { field, type WireField, type WireMessage } from './wire-message.js'

/** Exporters nest two or three subgraphs; a far deeper nesting would overflow the stack. */
const MAX_DEPTH = 64

/** One empty list for all nodes without graphs inside. */
const NO_GRAPHS: readonly OnnxGraph[] = []

export class OnnxNode {
  readonly graph: OnnxGraph
  readonly name: string = ''
  readonly opType: string = ''
  /** `''` is ONNX's own domain. */
  readonly domain: string = ''
  /** The graphs inside the node, such as `then_branch` of `If`. */
  readonly subgraphs: readonly OnnxGraph[]
  /** @internal The field of the graph that holds it. */
  readonly field: WireField
  /** Cached because a search for the readers of a value reads them on every node. */
  #inputs: readonly string[] | undefined
  #outputs: readonly string[] | undefined

  /** @throws {FourierFTError} `INVALID_ONNX`, also for a node without an operator, or without inputs and outputs */
  constructor(graph: OnnxGraph, source: WireField) {
    this.graph = graph
    this.field = source
    let values = 0
    let hasGraphs = false
    const cursor = source.readOnlyMessage(this).cursor()
    while (cursor.next()) {
      const { number } = cursor
      if (number === Node.input || number === Node.output) values++
      else if (number === Node.name) this.name = cursor.text(this)
      else if (number === Node.opType) this.opType = cursor.text(this)
      else if (number === Node.domain) this.domain = cursor.text(this)
      else if (number === Node.attribute) hasGraphs = holdsGraphs(cursor.readOnlyMessage(this)) || hasGraphs
    }
    if (this.domain === 'ai.onnx') this.domain = ''
    if (this.opType === '') throw invalidOnnx(this, 'it has no operator type')
    if (values === 0) throw invalidOnnx(this, 'it has neither an input nor an output')
    graph.budget?.take('name', values, this)
    this.subgraphs = hasGraphs ? this.#graphsInside() : NO_GRAPHS
  }

  /** @internal Its description in error messages. */
  get where(): string {
    return `node ${JSON.stringify(this.name)} (${this.opType}) of ${this.graph.where}`
  }

  #graphsInside(): OnnxGraph[] {
    const node = this.field.editableMessage(this)
    return node.all(Node.attribute).flatMap((field) => {
      const attribute = field.editableMessage(this)
      const path = `${this.graph.path}/${this.name}.${attribute.text(Attribute.name) ?? ''}`
      return [...attribute.all(Attribute.g), ...attribute.all(Attribute.graphs)].map(
        (body) => new OnnxGraph(body.editableMessage(this), this.graph.file, path, this.graph),
      )
    })
  }

  /** `''` is an omitted optional input. */
  get inputs(): readonly string[] {
    return this.#inputs ?? this.#readValues().inputs
  }

  get outputs(): readonly string[] {
    return this.#outputs ?? this.#readValues().outputs
  }

  /** Returns the attribute of that name; if a broken file has several, the first. */
  attribute(name: string): OnnxAttribute | undefined {
    const message = this.#findAttribute(name)
    return message && this.#readAttribute(name, message)
  }

  /** All attributes by name, in the order of the file. */
  get attributes(): ReadonlyMap<string, OnnxAttribute> {
    const attributes = new Map<string, OnnxAttribute>()
    const cursor = this.field.readOnlyMessage(this).cursor()
    while (cursor.next(Node.attribute)) {
      const message = cursor.readOnlyMessage(this)
      const name = message.text(Attribute.name) ?? ''
      if (attributes.has(name)) continue
      this.graph.budget?.check('attribute', attributes.size + 1, this)
      attributes.set(name, this.#readAttribute(name, message))
    }
    return attributes
  }

  #findAttribute(name: string): WireMessage | undefined {
    const cursor = this.field.readOnlyMessage(this).cursor()
    while (cursor.next(Node.attribute)) {
      const message = cursor.readOnlyMessage(this)
      if (message.text(Attribute.name) === name) return message
    }
    return undefined
  }

  #readAttribute(name: string, message: WireMessage): OnnxAttribute {
    const tensor = {
      read: () => this.#findAttribute(name)?.readOnlyMessage(Attribute.t),
      edit: () => {
        const attributes = this.field.editableMessage(this).all(Node.attribute)
        const attribute = attributes.find(
          (field) => field.readOnlyMessage(this).text(Attribute.name) === name,
        )
        return attribute?.editableMessage(this).last(Attribute.t)?.editableMessage(this)
      },
    }
    const { file, budget } = this.graph
    return readAttribute(message, tensor, { file, budget, where: this })
  }

  /** `metadata_props`, in which PyTorch's newer exporter writes the names of modules. */
  get metadata(): ReadonlyMap<string, string> {
    return readStringMap(this.field.readOnlyMessage(this), Node.metadata, this)
  }

  /** Makes the node read another value. @throws {FourierFTError} `INVALID_OPTION` if it has no such input */
  setInput(index: number, name: string): void {
    this.#rename(Node.input, index, name)
  }

  /** Renames an output; readers of the old name are unaffected. @throws {FourierFTError} `INVALID_OPTION` if there is no such output */
  setOutput(index: number, name: string): void {
    this.#rename(Node.output, index, name)
  }

  /** Adds an input after the last one. */
  addInput(name: string): void {
    const message = this.field.editableMessage(this)
    const before = this.inputs
    message.insert([field(Node.input, name)], message.last(Node.input))
    this.forget()
    this.graph.reindex(this, 'inputs', before)
  }

  /** Sets an attribute; not one of a graph inside the node. */
  setAttribute(name: string, value: NewAttribute): void {
    this.removeAttribute(name)
    this.field.editableMessage(this).insert([field(Node.attribute, encodeAttribute(name, value))])
  }

  /** Removes an attribute if the node has it; not one of a graph inside the node. */
  removeAttribute(name: string): void {
    const message = this.field.editableMessage(this)
    const isRemoved = (one: WireField) => one.readOnlyMessage(this).text(Attribute.name) === name
    message.remove(message.all(Node.attribute).filter(isRemoved))
  }

  /** @internal Drops the cached names of inputs and outputs. */
  forget(): void {
    this.#inputs = undefined
    this.#outputs = undefined
  }

  /** Reads both at once, because callers need both. */
  #readValues(): { readonly inputs: readonly string[]; readonly outputs: readonly string[] } {
    const inputs: string[] = []
    const outputs: string[] = []
    const cursor = this.field.readOnlyMessage(this).cursor()
    while (cursor.next()) {
      if (cursor.number === Node.input) inputs.push(cursor.text(this))
      else if (cursor.number === Node.output) outputs.push(cursor.text(this))
    }
    this.#inputs = inputs
    this.#outputs = outputs
    return { inputs, outputs }
  }

  #rename(number: number, index: number, name: string): void {
    const message = this.field.editableMessage(this)
    const old = message.all(number)[index]
    if (!old)
      throw new FourierFTError(
        'INVALID_OPTION',
        `the ${this.where} has no ${number === Node.input ? 'input' : 'output'} ${index}`,
        { file: this.graph.file, option: 'index', received: index },
      )
    const kind = number === Node.input ? 'inputs' : 'outputs'
    const before = this[kind]
    message.replace(old, field(number, name))
    this.forget()
    this.graph.reindex(this, kind, before)
  }
}

interface MovedBody {
  /** New names for values that the inner graph defines. No value of the result may be defined twice. */
  readonly names: ReadonlyMap<string, string>
  /** Gives each moved node its name. No two nodes of a graph may have one name. */
  readonly nodeName: (name: string) => string
  /** More nodes, after those of the inner graph. */
  readonly nodes: readonly NewNode[]
}

/** The main graph, or a graph inside a node. */
export class OnnxGraph {
  readonly file: string
  /** `''` for the main graph, `/node.attribute` for graphs inside nodes. */
  readonly path: string
  readonly parent: OnnxGraph | undefined
  readonly #message: WireMessage
  /** In the order of the file. If the order is stale, new nodes are at the end, and removed nodes are still in the list. */
  #nodes: OnnxNode[] = []
  #isOrderStale = false
  readonly #initializers = new Map<string, OnnxTensor>()
  #index: EditableIndex<OnnxNode, OnnxGraph> | undefined
  #inputNames: Set<string> | undefined
  #outputNames: Set<string> | undefined
  #knownValues: Map<string, OnnxValue> | undefined
  /** The fields after which new inputs and outputs are inserted. */
  #lastInput: WireField | undefined
  #lastOutput: WireField | undefined

  constructor(message: WireMessage, file: string, path = '', parent?: OnnxGraph) {
    this.file = file
    this.path = path
    this.parent = parent
    this.#message = message
    if (depth(parent) > MAX_DEPTH) throw invalidOnnx(file, `graphs are nested more than ${MAX_DEPTH} deep`)
    this.budget?.take('graph', 1, this)
    for (const part of message.fields()) {
      if (part.number === Graph.node) this.#nodes.push(this.#readNode(part))
      else if (part.number === Graph.initializer) this.#readInitializer(part)
    }
  }

  /** @internal Its description in error messages. */
  get where(): string {
    return this.path === '' ? this.file : `graph ${this.path} of ${this.file}`
  }

  /** @internal */
  get budget(): MemoryBudget | undefined {
    return this.#message.budget
  }

  /** In the order of the file, which is an order of execution, as ONNX demands. */
  get nodes(): readonly OnnxNode[] {
    if (this.#isOrderStale) {
      const byField = new Map(this.#nodes.map((node) => [node.field, node]))
      this.#nodes = Array.from(this.#message.fields()).flatMap((field) => byField.get(field) ?? [])
      this.#isOrderStale = false
    }
    return this.#nodes
  }

  /** The constant tensors of this graph by name. A subgraph also sees those of its enclosing graphs. */
  get initializers(): ReadonlyMap<string, OnnxTensor> {
    return this.#initializers
  }

  /** In old models (IR version 3), these include the initializers. */
  get inputs(): readonly OnnxValue[] {
    return this.#values(Graph.input)
  }

  get outputs(): readonly OnnxValue[] {
    return this.#values(Graph.output)
  }

  /** The exporter's descriptions of intermediate values. */
  get valueInfos(): readonly OnnxValue[] {
    return this.#values(Graph.valueInfo)
  }

  /** Returns the exporter's description of an intermediate value or an input. */
  valueInfo(name: string): OnnxValue | undefined {
    this.#knownValues ??= new Map([...this.inputs, ...this.valueInfos].map((value) => [value.name, value]))
    return this.#knownValues.get(name)
  }

  /** Returns this graph and all graphs inside it, outermost first. */
  graphs(): OnnxGraph[] {
    return [this, ...this.nodes.flatMap((node) => node.subgraphs.flatMap((inner) => inner.graphs()))]
  }

  /** The nodes that write and read each value; edits keep it up to date. */
  get index(): GraphIndex<OnnxNode> {
    return this.#indexed()
  }

  /** Returns the nodes that read a value, in this graph and in those graphs inside it that see the value. */
  consumersOf(name: string): readonly OnnxNode[] {
    const index = this.#indexed()
    const consumers = index.consumers.get(name) ?? []
    const inside: OnnxNode[] = []
    for (const inner of index.innerReaders(name))
      if (!inner.defines(name)) for (const node of inner.consumersOf(name)) inside.push(node)
    return inside.length > 0 ? [...consumers, ...inside] : consumers
  }

  /** @internal Returns the names of all values that this graph and the graphs inside it read. */
  namesRead(): Iterable<string> {
    return this.#indexed().namesRead()
  }

  /** Returns whether the value is an output of this graph. */
  isOutput(name: string): boolean {
    this.#outputNames ??= this.#namesOf(Graph.output)
    return this.#outputNames.has(name)
  }

  /**
   * Inserts new nodes, or copies of nodes, after `node`.
   *
   * @returns the inserted nodes
   * @throws {FourierFTError} `INVALID_STATE` if the node is not in this graph
   */
  insertAfter(node: OnnxNode, nodes: readonly (NewNode | ExistingNode)[]): OnnxNode[] {
    this.#checkContains(node)
    return this.#added(this.#message.insert(nodes.map(fieldOf), node.field))
  }

  /** Inserts new nodes before `node`. @throws {FourierFTError} as {@link insertAfter} does */
  insertBefore(node: OnnxNode, nodes: readonly NewNode[]): void {
    this.#checkContains(node)
    this.#added(this.#message.insertBefore(nodes.map(nodeField), node.field))
  }

  /**
   * Replaces `node` by new nodes, or by nodes of a graph inside it.
   *
   * @returns the nodes that replace it
   * @throws {FourierFTError} as {@link insertAfter} does
   */
  replaceNode(node: OnnxNode, nodes: readonly (NewNode | ExistingNode)[]): OnnxNode[] {
    this.#checkContains(node)
    // The index cannot forget the graphs inside a node, so it is built again.
    if (node.subgraphs.length > 0) this.#index = undefined
    else this.#index?.remove(node)
    return this.#added(this.#message.replace(node.field, ...nodes.map(fieldOf)))
  }

  /**
   * Replaces `node` by the nodes of a graph inside it, which move here with their initializers and descriptions.
   *
   * @returns the nodes that replace it
   * @throws {FourierFTError} as {@link insertAfter} does
   */
  replaceByBody(node: OnnxNode, body: OnnxGraph, { names, nodeName, nodes }: MovedBody): OnnxNode[] {
    this.#checkContains(node)
    const fields = body.#message.all(Graph.node)
    for (const one of fields) {
      renameValues(one.editableMessage(this), names, this)
      renameNode(one.editableMessage(this), nodeName)
    }
    const renamed = (number: number, nameNumber: number) => {
      const parts = body.#message.all(number)
      for (const one of parts) renameValue(one, nameNumber, names, this)
      return parts
    }
    const tensors = renamed(Graph.initializer, Tensor.name)
    for (const one of this.#message.insert(tensors)) this.#readInitializer(one)
    for (const one of renamed(Graph.valueInfo, ValueInfo.name)) {
      const value = readValue(one.readOnlyMessage(this), this)
      if (this.isOutput(value.name) || this.valueInfo(value.name)) continue
      this.#message.insert([one])
      this.#knownValues?.set(value.name, value)
    }
    return this.replaceNode(node, [...fields.map((one) => ({ field: one })), ...nodes])
  }

  /** Adds an initializer. @throws {FourierFTError} `INVALID_OPTION` if the name is taken */
  addInitializer(tensor: NewTensor & { readonly name: string }): OnnxTensor {
    this.#rejectTaken(tensor.name)
    const [added] = this.#message.insert([field(Graph.initializer, encodeTensor(tensor))]) as [WireField]
    return this.#readInitializer(added)
  }

  /** Adds an input. @throws {FourierFTError} `INVALID_OPTION` if the name is taken */
  addInput(value: NewValue): void {
    this.#rejectTaken(value.name)
    const after = this.#lastInput ?? this.#message.last(Graph.input)
    ;[this.#lastInput] = this.#message.insert([field(Graph.input, encodeValue(value))], after)
    this.#inputNames?.add(value.name)
    this.#knownValues = undefined
  }

  /** Adds an output. If only a name is given, the runtime infers type and shape. @throws {FourierFTError} `INVALID_OPTION` if the name is taken */
  addOutput(value: NewValue | { readonly name: string }): void {
    if (this.isOutput(value.name)) throw this.#nameTaken(value.name)
    const after = this.#lastOutput ?? this.#message.last(Graph.output)
    ;[this.#lastOutput] = this.#message.insert([field(Graph.output, encodeValue(value))], after)
    this.#outputNames?.add(value.name)
  }

  /** Changes the last dim of a value, if the file gives the value's shape. */
  setLastDim(name: string, size: number | string): void {
    for (const value of [...this.#message.all(Graph.output), ...this.#message.all(Graph.valueInfo)]) {
      if (value.readOnlyMessage(this).text(ValueInfo.name) !== name) continue
      const tensor = value
        .editableMessage(this)
        .last(ValueInfo.type)
        ?.editableMessage(this)
        .last(Type.tensor)
        ?.editableMessage(this)
      const dim = tensor?.last(TensorType.shape)?.editableMessage(this).last(Shape.dim)?.editableMessage(this)
      const old = dim?.last(Dimension.value) ?? dim?.last(Dimension.parameter)
      if (old)
        dim?.replace(old, field(typeof size === 'number' ? Dimension.value : Dimension.parameter, size))
    }
    this.#knownValues = undefined
  }

  /** Removes nodes of this graph. No other node may read their outputs. */
  removeNodes(nodes: readonly OnnxNode[]): void {
    this.#message.remove(nodes.map((node) => node.field))
    this.#isOrderStale = true
    // The index is built again on demand, because removing many nodes from it one by one could take quadratic time.
    this.#index = undefined
  }

  removeInitializers(names: ReadonlySet<string>): void {
    const fields = this.#message.all(Graph.initializer)
    this.#message.remove(
      fields.filter((field) => names.has(field.readOnlyMessage(this).text(Tensor.name) ?? '')),
    )
    for (const name of names) this.#initializers.delete(name)
  }

  removeInputs(names: ReadonlySet<string>): void {
    this.#removeValues(Graph.input, names)
  }

  removeOutputs(names: ReadonlySet<string>): void {
    this.#removeValues(Graph.output, names)
  }

  /** Removes the descriptions of intermediate values. */
  removeValueInfos(names: ReadonlySet<string>): void {
    this.#removeValues(Graph.valueInfo, names)
  }

  /** @internal The fields of that number. A change of them is not noticed by this object. */
  fields(number: number): WireField[] {
    return this.#message.all(number)
  }

  /** @returns a function that restores nodes and initializers; call it after the message has been restored */
  snapshot(): () => void {
    const [nodes, initializers] = [[...this.nodes], [...this.#initializers]]
    const restoreInner = nodes.flatMap((node) => node.subgraphs.map((inner) => inner.snapshot()))
    return () => {
      this.#nodes = nodes
      this.#isOrderStale = false
      this.#index = undefined
      this.#forgetValues()
      for (const node of nodes) node.forget()
      this.#initializers.clear()
      for (const [name, tensor] of initializers) this.#initializers.set(name, tensor)
      for (const restore of restoreInner) restore()
    }
  }

  /** Returns whether this graph has an initializer, an input or a node's output of that name. */
  defines(name: string): boolean {
    this.#inputNames ??= this.#namesOf(Graph.input)
    return (
      this.#initializers.has(name) ||
      this.#inputNames.has(name) ||
      this.index.producers.get(name) !== undefined
    )
  }

  /** @internal Updates the index after a change of the node's inputs or outputs. */
  reindex(node: OnnxNode, kind: 'inputs' | 'outputs', before: readonly string[]): void {
    this.#index?.update(node, kind, before)
    if (kind === 'inputs') this.#addReaderToParents(node.inputs)
  }

  #indexed(): EditableIndex<OnnxNode, OnnxGraph> {
    this.#index ??= new EditableIndex(this.nodes)
    return this.#index
  }

  /** Adds names that this graph reads to the indexes of its enclosing graphs. */
  #addReaderToParents(names: Iterable<string>): void {
    for (let inner: OnnxGraph = this; inner.parent; inner = inner.parent) {
      const index = inner.parent.#index
      if (index) for (const name of names) index.addInnerReader(name, inner)
    }
  }

  #added(fields: readonly WireField[]): OnnxNode[] {
    const nodes = fields.map((field) => this.#readNode(field))
    for (const node of nodes) {
      this.#nodes.push(node)
      this.#index?.add(node)
      if (this.parent)
        for (const names of [node.inputs, ...namesInside(node)]) this.#addReaderToParents(names)
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
    const tensor = readTensor(new InitializerSource(source, this), this.where)
    this.#initializers.set(tensor.name, tensor)
    return tensor
  }

  #checkContains(node: OnnxNode): void {
    if (node.field.parentMessage !== this.#message)
      throw new FourierFTError(
        'INVALID_STATE',
        `the node ${JSON.stringify(node.name)} does not belong to ${this.where}`,
        { file: this.file },
      )
  }

  #rejectTaken(name: string): void {
    if (this.defines(name)) throw this.#nameTaken(name)
  }

  #nameTaken(name: string): FourierFTError {
    return new FourierFTError('INVALID_OPTION', `${this.where} has a value ${JSON.stringify(name)} already`, {
      file: this.file,
      tensor: name,
      advice: 'choose another name',
    })
  }

  #removeValues(number: number, names: ReadonlySet<string>): void {
    const fields = this.#message.all(number)
    this.#message.remove(
      fields.filter((one) => names.has(one.readOnlyMessage(this).text(ValueInfo.name) ?? '')),
    )
    this.#forgetValues()
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
    while (cursor.next(number)) names.add(cursor.readOnlyMessage(this).text(ValueInfo.name) ?? '')
    this.budget?.take('entry', names.size, this)
    return names
  }

  #values(number: number): OnnxValue[] {
    this.budget?.check('value', this.#message.count(number), this)
    const values: OnnxValue[] = []
    const cursor = this.#message.cursor()
    while (cursor.next(number)) values.push(readValue(cursor.readOnlyMessage(this), this))
    return values
  }
}

/** The message of an initializer. */
class InitializerSource implements TensorSource {
  readonly #field: WireField
  readonly #graph: OnnxGraph

  constructor(field: WireField, graph: OnnxGraph) {
    this.#field = field
    this.#graph = graph
  }

  read(): WireMessage {
    return this.#field.readOnlyMessage(this.#graph)
  }

  edit(): WireMessage {
    return this.#field.editableMessage(this.#graph)
  }
}

const namesInside = ({ subgraphs }: OnnxNode) => subgraphs.map((graph) => Array.from(graph.namesRead()))

const nodeField = (node: NewNode) => field(Graph.node, encodeNode(node))

const fieldOf = (node: NewNode | ExistingNode) => ('field' in node ? node.field : nodeField(node))

function holdsGraphs(attribute: WireMessage): boolean {
  return attribute.count(Attribute.g) + attribute.count(Attribute.graphs) > 0
}

function depth(graph: OnnxGraph | undefined): number {
  return graph === undefined ? 0 : 1 + depth(graph.parent)
}

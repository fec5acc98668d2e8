/**
 * Replaces `If` nodes by one of their graphs: a training graph has no choices. Only nodes between the targets and the outputs are replaced;
 * all others carry no gradient and may stay.
 *
 * | `If` | graph that stays |
 * | --- | --- |
 * | of `attachBranches`, on an attention | the one with the branches |
 * | of `attachBranches`, on a replaceable layer | the replacement if its weight or bias is a target, else the layer itself |
 * | of `attachBranches`, in that replacement | the one with one weight for the whole batch |
 * | of a merged decoder (the condition is the input `use_cache_branch`) | the one without a cache |
 * | whose condition is a constant, or follows from shapes | the one that the condition selects |
 */
import { FourierFTError } from '@fourierft/core'
import { DOMAIN } from '../../attach/functions/branch-function.js'
import type { OnnxGraph, OnnxNode } from '../../model/graph.js'
import { invalidOnnx } from '../../model/invalid-onnx.js'
import type { OnnxModel } from '../../model/model.js'
import { constantOf, producerOf, skipIdentity } from '../../model/names-in-scope.js'
import { DataType } from '../../model/schema.js'
import { Analysis } from '../../shapes/batch-axis.js'
import { activeValues, valuesRead } from '../differentiate.js'
import { definedNames, type Names } from './names.js'
import { neededParts } from './remove-unused.js'

/** Optimum's name for the condition of its merged decoders: true selects the graph that reads the cache. */
const USE_CACHE = 'use_cache_branch'
/** A part of the names of all values that `attachBranches` adds. */
const ATTACHED = `.${DOMAIN}.`

/** @throws {FourierFTError} `UNSUPPORTED` for an `If` whose condition is known only when the model runs, with the name of the node */
export function inlineIfs(model: OnnxModel, targets: readonly string[], names: Names): void {
  // Each round removes one level of nesting.
  for (let nodes = ifsBetween(model, targets); nodes.length > 0; nodes = ifsBetween(model, targets)) {
    const choice = new Choice(model, targets)
    const bodies = nodes.map((node) => choice.bodyOf(node))
    for (const [i, node] of nodes.entries()) inlineBody(node, bodies[i], names)
  }
}

/** The `If` nodes that change with the targets, and that an output needs. */
function ifsBetween({ graph }: OnnxModel, targets: readonly string[]): OnnxNode[] {
  if (!graph.nodes.some(isIf)) return []
  const active = activeValues(graph, targets)
  const needed = neededParts(
    graph,
    graph.outputs.map(({ name }) => name),
  ).nodes
  return graph.nodes.filter(
    (node) => isIf(node) && needed.has(node) && valuesRead(node).some((name) => active.has(name)),
  )
}

function isIf({ opType, domain }: OnnxNode): boolean {
  return opType === 'If' && domain === ''
}

/** Which of its two graphs an `If` runs in training. */
class Choice {
  readonly #model: OnnxModel
  readonly #targets: ReadonlySet<string>
  #analysis: Analysis | undefined

  constructor(model: OnnxModel, targets: readonly string[]) {
    this.#model = model
    this.#targets = new Set(targets)
  }

  bodyOf(node: OnnxNode): OnnxGraph {
    const isTrue = this.#condition(node)
    if (isTrue === undefined) throw undecided(node)
    const body = bodyNamed(node, isTrue ? 'then_branch' : 'else_branch')
    if (body && body.outputs.length >= node.outputs.length) return body
    throw invalidOnnx(node, 'it has no graph for its condition, or one with fewer outputs than the node')
  }

  #condition(node: OnnxNode): boolean | undefined {
    const [condition = ''] = node.inputs
    const { graph } = this.#model
    if (condition.includes(ATTACHED)) return this.#attachedCondition(node, condition)
    const source = skipIdentity(graph, condition)
    const constant = constantOf(source.graph, source.name)
    if (constant?.dataType === DataType.bool) {
      const byte = constant.data()?.[0]
      if (byte !== undefined) return byte !== 0
    }
    this.#analysis ??= new Analysis(this.#model)
    const known = this.#analysis.known(graph, condition).integers?.[0]?.value
    if (known !== undefined) return known !== 0
    const isCacheInput = source.name === USE_CACHE && graph.inputs.some(({ name }) => name === USE_CACHE)
    return isCacheInput ? false : undefined
  }

  /** `attachBranches` compares the number of an adapter's weights, or coefficients, with 0, and the number of rows with 1. */
  #attachedCondition(node: OnnxNode, condition: string): boolean {
    const isTrained = inputsOf(this.#model.graph, condition).some((name) => this.#targets.has(name))
    if (isTrained) return false
    return bodyNamed(node, 'then_branch')?.nodes[0]?.opType === 'Identity'
  }
}

/** More values than the condition of an attached layer is computed from. */
const MAX_VALUES = 64

/** The values without a producer from which the condition of an attached layer is computed. */
function inputsOf(graph: OnnxGraph, condition: string): string[] {
  const seen = new Set([condition])
  const found: string[] = []
  for (const name of seen) {
    if (seen.size > MAX_VALUES) break
    const producer = producerOf(graph, name)
    if (producer) for (const input of producer.inputs) seen.add(input)
    else found.push(name)
  }
  return found
}

function bodyNamed(node: OnnxNode, name: string): OnnxGraph | undefined {
  return node.subgraphs.find(({ path }) => path.endsWith(`.${name}`))
}

/** Moves the nodes of `body` to the place of `node`. */
function inlineBody(node: OnnxNode, body: OnnxGraph, names: Names): void {
  const { graph } = node
  names.releaseInside(node)
  const newNames = new Map<string, string>()
  const copies = node.outputs.flatMap((output, i) => {
    const { name } = body.outputs[i]
    if (output === '') return []
    if (!newNames.has(name) && body.index.producers.get(name)) {
      newNames.set(name, output)
      return []
    }
    return [{ opType: 'Identity', inputs: [name], outputs: [output] }]
  })
  for (const name of definedNames(body)) {
    if (newNames.has(name)) continue
    const free = names.free(name)
    if (free !== name) newNames.set(name, free)
  }
  const identities = copies.map((copy) => ({
    ...copy,
    inputs: copy.inputs.map((name) => newNames.get(name) ?? name),
  }))
  for (const moved of graph.replaceByBody(node, body, {
    names: newNames,
    nodeName: names.freeNode,
    nodes: identities,
  }))
    names.takeInside(moved)
}

function undecided(node: OnnxNode): FourierFTError {
  const { file } = node.graph
  return new FourierFTError(
    'UNSUPPORTED',
    `${file}: node ${JSON.stringify(node.name)} (If) chooses between two graphs when the model runs, and is between an adapter and the loss`,
    {
      file,
      received: node.inputs[0],
      advice:
        'adapt layers after this node only, or export the model with fixed sizes, so that its condition is known',
    },
  )
}

/**
 * Reverse-mode differentiation of a graph: adds the nodes that compute the gradients of some of its inputs. Only the nodes between those
 * inputs and the seeds are differentiated, and no gradient of a frozen weight is formed.
 *
 * @see Griewank and Walther, "Evaluating Derivatives", chapter 3
 */
import { FourierFTError } from '@fourierft/core'
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import type { OnnxModel } from '../model/model.js'
import { Analysis } from '../shapes/batch-axis.js'
import { Backward } from './backward.js'
import { foldGelu } from './fold/fold-gelu.js'
import { selectEarly } from './fold/select-early.js'
import { GRADIENT_RULES, isConstantOperator, operatorName } from './gradient-rules.js'
import { type BackwardPass, keepOrRecompute, type MemoryPolicy } from './keep-or-recompute.js'
import { type GradientPart, unsupportedForm } from './rule.js'
import { isFloatType } from './scalar.js'
import { estimateStepMemory, type StepMemory } from './step-memory.js'
import { unfoldFused } from './unfold/unfold-fused.js'

/** The first opset that has all operators of the backward graph in the form that it uses: `ScatterElements` with sums. */
export const MIN_OPSET = 16

export interface DifferentiateOptions {
  /** A value of the graph → the value with ∂L/∂value, of the same shape. */
  readonly seeds: ReadonlyMap<string, string>
  /** The inputs, or other values, whose gradients are wanted. */
  readonly targets: readonly string[]
  /** Default: `fast`. */
  readonly memory?: MemoryPolicy
}

export interface Derivative {
  /** Target → the value with its gradient. */
  readonly gradients: ReadonlyMap<string, string>
  readonly stepMemory: StepMemory
}

/**
 * Adds the backward nodes after the last node of the main graph.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for an operator between the targets and the seeds that has no rule, or no gradient for one of its inputs,
 *   which the message names, and for an opset below {@link MIN_OPSET}; `INVALID_OPTION` if no target affects the seeds. The model is then unchanged.
 */
export function differentiate(
  model: OnnxModel,
  { seeds, targets, memory = 'fast' }: DifferentiateOptions,
): Derivative {
  const { graph } = model
  const opset = model.opsetImports.get('') ?? 0
  if (opset < MIN_OPSET)
    throw new FourierFTError(
      'UNSUPPORTED',
      `${model.file} uses opset ${opset}; training needs opset ${MIN_OPSET} or later`,
      {
        file: model.file,
        expected: MIN_OPSET,
        received: opset,
        advice: `export the model again with opset ${MIN_OPSET} or later`,
      },
    )
  return model.transaction(() => {
    foldGelu(model, activeValues(graph, targets))
    selectEarly(model)
    unfoldFused(model, { active: activeValues(graph, targets), seeds: seeds.keys() })
    const analysis = new Analysis(model)
    const backward = new Backward(graph, { analysis, opset, target: targets[0] ?? '' })
    const gradients = new Gradients(backward)
    for (const [value, seed] of seeds) gradients.add(value, seed)
    const active = activeValues(graph, targets)
    const owners: OnnxNode[] = []
    for (const node of graph.nodes.toReversed()) {
      differentiateNode(node, { active, gradients, backward })
      while (owners.length < backward.nodes.length) owners.push(node)
    }
    gradients.complete()
    const found = new Map(
      targets.flatMap((target) => {
        const gradient = gradients.of(target)
        return gradient === undefined ? [] : [[target, gradient] as const]
      }),
    )
    if (found.size === 0) throw unreachable(graph, targets)
    const last = graph.nodes.at(-1)
    const { nodes } = backward
    const pass: BackwardPass = {
      graph,
      nodes,
      owners,
      targets,
      gradientOf: (value) => gradients.of(value),
      sizesOf: (value) => analysis.measured(graph, value),
      typeOf: (value) => backward.typeOf(value),
    }
    const plan = keepOrRecompute(memory, pass)
    if (last) graph.insertAfter(last, plan.nodes)
    const stepMemory = estimateStepMemory(plan, pass)
    return { gradients: found, stepMemory }
  })
}

/** ∂L/∂value by value. The parts of a value's gradient are summed up when the gradient is first read: after all nodes that read the value. */
class Gradients {
  readonly #parts = new Map<string, GradientPart[]>()
  readonly #sums = new Map<string, string>()
  readonly #backward: Backward

  constructor(backward: Backward) {
    this.#backward = backward
  }

  of(value: string): string | undefined {
    const parts = this.#parts.get(value)
    const known = this.#sums.get(value)
    if (known !== undefined || parts === undefined) return known
    const values = parts.filter((part) => typeof part === 'string')
    const added = parts.filter((part) => typeof part === 'function')
    const [first = this.#backward.zerosLike(value), ...others] = values
    const sum = others.reduce((total, part) => this.#backward.add(total, part), first)
    const result = added.reduce((total, addTo) => addTo(total), sum)
    this.#sums.set(value, result)
    return result
  }

  add(value: string, part: GradientPart): void {
    const parts = this.#parts.get(value)
    if (parts) parts.push(part)
    else this.#parts.set(value, [part])
  }

  /** Adds the nodes that wait for the sum of the other parts: other gradients come from the same nodes. */
  complete(): void {
    for (const [value, parts] of this.#parts)
      if (parts.some((part) => typeof part === 'function')) this.of(value)
  }
}

/** The values that change with the targets, by a way that carries a gradient. */
export function activeValues(graph: OnnxGraph, targets: readonly string[]): ReadonlySet<string> {
  const active = new Set(targets)
  for (const node of graph.nodes) {
    if (isConstantOperator(node) || isCastToInteger(node)) continue
    const inputs = node.subgraphs.length > 0 ? valuesRead(node) : node.inputs
    if (inputs.some((input) => active.has(input)))
      for (const output of differentiableOutputs(node)) if (output !== '') active.add(output)
  }
  return active
}

/** Operators whose other outputs are indices or masks; or the scale and the zero point of a quantisation, which count as constants. */
const FIRST_OUTPUT_ONLY: ReadonlySet<string> = new Set(
  'DynamicQuantizeLinear Dropout MaxPool TopK Unique'.split(' '),
)

function differentiableOutputs({ opType, outputs }: OnnxNode): readonly string[] {
  return FIRST_OUTPUT_ONLY.has(opType) ? outputs.slice(0, 1) : outputs
}

function isCastToInteger(node: OnnxNode): boolean {
  const to = node.opType === 'Cast' ? node.attribute('to')?.int : undefined
  return to !== undefined && !isFloatType(Number(to))
}

/** The values that the node and the graphs inside it read. */
export function valuesRead({ inputs, subgraphs }: OnnxNode): readonly string[] {
  return [...inputs, ...subgraphs.flatMap((graph) => Array.from(graph.namesRead()))]
}

interface Context {
  readonly active: ReadonlySet<string>
  readonly gradients: Gradients
  readonly backward: Backward
}

function differentiateNode(node: OnnxNode, { active, gradients, backward }: Context): void {
  const { inputs, outputs } = node
  const isActive = (name: string) => name !== '' && active.has(name)
  if (!outputs.some(isActive) || isConstantOperator(node)) return
  const ofOutputs = outputs.map((output) => (output === '' ? undefined : gradients.of(output)))
  const gradient = ofOutputs.find((one) => one !== undefined)
  if (gradient === undefined) return
  const rule = GRADIENT_RULES.get(operatorName(node))
  if (!rule) throw noRule(node)
  const needs = (input: number) => isActive(inputs[input] ?? '')
  const call = { node, inputs, outputs, gradients: ofOutputs, gradient, needs, backward }
  const results = rule(call)
  for (const [i, input] of inputs.entries()) {
    if (!needs(i)) continue
    const result = results[i]
    if (result !== undefined) gradients.add(input, result)
    // Indices and conditions have no gradient. The gradient of a number must not be lost.
    else if (isFloatType(backward.typeOf(input)))
      throw unsupportedForm(
        call,
        `computes with input ${i} (${JSON.stringify(input)}), which an adapter changes`,
      )
  }
}

function noRule(node: OnnxNode): FourierFTError {
  const { file } = node.graph
  const operator = operatorName(node)
  return new FourierFTError(
    'UNSUPPORTED',
    `${file}: node ${JSON.stringify(node.name)} has the operator ${operator}, which has no gradient rule, and is between an adapter and the loss`,
    {
      file,
      received: operator,
      advice: 'adapt layers after this node only, or export the model without this operator',
    },
  )
}

function unreachable({ file }: OnnxGraph, targets: readonly string[]): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `${file}: the loss does not depend on any of ${targets.slice(0, 3).join(', ')}${targets.length > 3 ? ', …' : ''}`,
    {
      file,
      option: 'loss',
      received: targets,
      advice: 'choose layers before the output that the loss reads',
    },
  )
}

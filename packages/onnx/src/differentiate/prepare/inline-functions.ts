/** Replaces the calls of model-local functions by the nodes of their bodies, in the main graph and in the graphs inside its nodes. */
import { FourierFTError } from '@fourierft/core'
import { DOMAIN } from '../../attach/functions/branch-function.js'
import { type FunctionBody, nodesOfCall } from '../../model/function-body.js'
import type { OnnxNode } from '../../model/graph.js'
import { invalidOnnx } from '../../model/invalid-onnx.js'
import type { OnnxFunction, OnnxModel } from '../../model/model.js'
import type { Names } from './names.js'

/** Functions call functions; exporters nest them a few levels deep. */
const MAX_DEPTH = 64

/**
 * Removes all model-local functions except those of `attachBranches`.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for several functions of one name, and for functions that need another version of an operator set
 *   than the model; `INVALID_ONNX` for functions that call themselves, or that would make more nodes than memory holds
 */
export function inlineFunctions(model: OnnxModel, names: Names): void {
  const functions = model.functions.filter(({ domain }) => domain !== DOMAIN)
  if (functions.length === 0) return
  const bodies = new Map<string, FunctionBody>()
  for (const one of functions) {
    const key = nameOf(one)
    if (bodies.has(key)) throw unsupported(model, key, 'has several forms of one name')
    const body = model.functionBody(one)
    if (body) bodies.set(key, body)
  }
  for (let depth = 0; ; depth++) {
    const calls = model.graph
      .graphs()
      .flatMap(({ nodes }) => nodes)
      .filter((node) => bodies.has(nameOf({ domain: node.domain, name: node.opType })))
    if (calls.length === 0) break
    if (depth === MAX_DEPTH)
      throw invalidOnnx(model.file, `its functions call each other more than ${MAX_DEPTH} deep`)
    for (const call of calls) {
      const key = nameOf({ domain: call.domain, name: call.opType })
      inlineCall(model, { call, key, body: bodies.get(key) as FunctionBody }, names)
    }
  }
  for (const one of functions) model.removeFunction(one)
}

function nameOf({ domain, name }: OnnxFunction): string {
  return `${domain}:${name}`
}

interface Call {
  readonly call: OnnxNode
  /** The function's name in messages. */
  readonly key: string
  readonly body: FunctionBody
}

function inlineCall(model: OnnxModel, { call, key, body }: Call, names: Names): void {
  addImports(model, key, body)
  const [firstOutput = ''] = call.outputs
  const newNames = new Map(body.inputs.map((name, i) => [name, call.inputs[i] ?? '']))
  const copies = body.outputs.flatMap((name, i) => {
    const output = call.outputs[i] ?? ''
    if (output === '') return []
    if (!newNames.has(name) && body.values.has(name)) {
      newNames.set(name, output)
      return []
    }
    return [{ opType: 'Identity', inputs: [name], outputs: [output] }]
  })
  for (const name of body.definedNames)
    if (name !== '' && !newNames.has(name)) newNames.set(name, names.free(`${firstOutput}.${name}`))
  const nodes = nodesOfCall(
    body,
    { node: call.field.editableMessage(call), names: newNames, nodeName: names.freeNode },
    call,
  )
  const identities = copies.map((copy) => ({
    ...copy,
    inputs: copy.inputs.map((name) => newNames.get(name) ?? name),
  }))
  const added = call.graph.replaceNode(call, [...nodes.map((field) => ({ field })), ...identities])
  for (const node of added) names.takeInside(node)
}

/** A body runs with the operator sets of the model. */
function addImports(model: OnnxModel, key: string, { opsetImports }: FunctionBody): void {
  for (const [name, version] of opsetImports) {
    const domain = name === 'ai.onnx' ? '' : name
    const present = model.opsetImports.get(domain)
    if (present === undefined) model.addOpsetImport(domain, version)
    else if (present !== version)
      throw unsupported(
        model,
        key,
        `uses version ${version} of the operator set ${JSON.stringify(domain)}, and the model version ${present}`,
      )
  }
}

function unsupported({ file }: OnnxModel, received: string, problem: string): FourierFTError {
  return new FourierFTError('UNSUPPORTED', `${file}: the function ${received} ${problem}`, {
    file,
    received,
    advice: 'export the model without functions (onnx.inliner.inline_local_functions)',
  })
}

/**
 * The Open Inference Protocol v2 of KServe and Triton, with Triton's binary data. The base model and each adapter are models of their own. A request has
 * the model's own tensors, or one tensor of texts or images for the pipeline.
 *
 * @see https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
 * @see https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
 */
import { createRequire } from 'node:module'
import { Hono } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import * as v from 'valibot'
import { describeError, errorHeaders } from '../../api-error.js'
import type { CallOptions, Engine } from '../../engine.js'
import { ServerError } from '../../errors.js'
import { check, invalid } from '../check.js'
import { type ApiContext, adapterOf, readBody, type ServerEnv } from '../context.js'
import { divideBody, type InputTensor } from './decode-inputs.js'
import { checkOutputNames, encodeResponse, type OutputTensor } from './encode-response.js'
import { type InferRequest, parseInferRequest } from './infer-request.js'
import { describeTensors, runTensors, type TensorMetadata } from './model-tensors.js'
import { callPipeline, type PipelineTask, pipelineTask } from './pipeline-tensors.js'
import { PROTOCOL_PARAMETERS, withTimeout } from './protocol-parameters.js'
import { parseJson, readInferBody } from './read-body.js'

/** The only version of every model. */
const VERSION = '1'

/** `name`, `name/versions/1`, and an action after them. A name can have a slash, which Triton's client does not encode. */
const MODEL_PATH = /^(.+?)(?:\/versions\/([^/]+))?(?:\/(ready|infer))?$/

/** Parameters of requests with the model's own tensors. */
const tensorParameters = v.strictObject(
  PROTOCOL_PARAMETERS,
  `expected one of ${Object.keys(PROTOCOL_PARAMETERS).join(', ')}`,
)

const repositoryIndex = v.object({ ready: v.optional(v.boolean('')) }, '')

const { version } = createRequire(import.meta.url)('@fourierft/server/package.json') as { version: string }

/** A path below `/v2/models/`, taken apart. */
interface ModelPath {
  /** The model's name as the client wrote it. */
  readonly name: string
  readonly action: string | undefined
}

/** Returns the routes of the protocol. Each needs the variables of `ServerEnv`. */
export function openInference(engine: Engine, { maxBodyBytes, embedding }: ApiContext): Hono<ServerEnv> {
  const task = pipelineTask(engine, embedding)
  const app = new Hono<ServerEnv>()
  app.onError((error, c) => {
    c.set('error', error)
    const answer = describeError(error, c.get('requestId'))
    return c.json({ error: answer.message }, answer.status as ContentfulStatusCode, errorHeaders(answer))
  })
  app.get('/v2', (c) => {
    c.set('api', 'v2_metadata')
    return c.json({ name: 'fourierft', version, extensions: ['binary_tensor_data'] })
  })
  app.get('/v2/health/live', (c) => {
    c.set('api', 'v2_health')
    return c.json({ live: true })
  })
  app.get('/v2/health/ready', (c) => {
    c.set('api', 'v2_health')
    return c.json({ ready: engine.isReady }, engine.isReady ? 200 : 503)
  })
  app.post('/v2/repository/index', async (c) => {
    c.set('api', 'v2_repository')
    const body = await readBody(c, maxBodyBytes)
    // Adapters are loaded when they are asked for, so each of them is ready.
    const names = [engine.model, ...(await engine.list()).map(({ name }) => name)]
    if (body.length > 0) check(repositoryIndex, parseJson(body))
    return c.json(names.map((name) => ({ name, version: VERSION, state: 'READY', reason: '' })))
  })
  app.get('/v2/models/:path{.+}', async (c) => {
    const { name, action } = parsePath(c.req.param('path'))
    c.set('api', action === 'ready' ? 'v2_ready' : 'v2_metadata')
    if (action === 'infer') throw new ServerError('not_found', 'infer is a POST request')
    if (!engine.isReady) throw notReady()
    const adapter = adapterOf(c, engine, name)
    if (adapter !== null) await engine.prepare(adapter, { signal: c.get('signal') })
    return c.json(action === 'ready' ? { name, ready: true } : describeModel(engine, task, name, adapter))
  })
  app.post('/v2/models/:path{.+}', async (c) => {
    const { name, action } = parsePath(c.req.param('path'))
    c.set('api', 'v2_infer')
    if (action !== 'infer') throw new ServerError('not_found', 'the only POST request of a model is infer')
    if (!engine.isReady) throw notReady()
    const adapter = adapterOf(c, engine, name)
    const { json, binary } = await readInferBody(c, maxBodyBytes)
    const request = parseInferRequest(json)
    const inputs = divideBody(request, binary)
    const outputs = await withTimeout(request.parameters, c.get('signal'), (signal) =>
      infer(engine, task, adapter, request, inputs, { signal }),
    )
    return encodeResponse(name, request, outputs)
  })
  return app
}

/** @throws {ServerError} `model_not_found` for another version */
function parsePath(path: string): ModelPath {
  const [, name = '', modelVersion = VERSION, action] = MODEL_PATH.exec(path) ?? []
  if (modelVersion !== VERSION) {
    throw new ServerError('model_not_found', `the only version of a model is ${VERSION}`, {
      param: 'version',
    })
  }
  return { name, action }
}

function notReady(): ServerError {
  return new ServerError('shutting_down', 'the model is not ready')
}

/** The model's metadata. Only one kind of inputs is used at a time: the pipeline's one, or all the others. */
function describeModel(engine: Engine, task: PipelineTask | undefined, name: string, adapter: string | null) {
  const { signature } = engine
  const own = describeTensors(signature?.outputs ?? [])
  const outputs = adapter === null ? own : own.map((output) => withAnyLabels(output, engine.task))
  return {
    name,
    versions: [VERSION],
    platform: 'onnxruntime_onnx',
    inputs: [
      ...describeTensors(signature?.inputs ?? []),
      ...(task ? [{ name: task.input, datatype: 'BYTES', shape: [-1] }] : []),
    ],
    outputs: [...outputs, ...(task?.outputs ?? [])],
  }
}

/** An adapter can have a head with another number of labels. */
function withAnyLabels(output: TensorMetadata, task: string): TensorMetadata {
  const isLogits = output.name === 'logits' && task.endsWith('-classification')
  return isLogits ? { ...output, shape: [...output.shape.slice(0, -1), -1] } : output
}

async function infer(
  engine: Engine,
  task: PipelineTask | undefined,
  adapter: string | null,
  request: InferRequest,
  inputs: readonly InputTensor[],
  options: CallOptions,
): Promise<readonly OutputTensor[]> {
  const [input] = inputs
  if (task !== undefined && inputs.length === 1 && input?.name === task.input) {
    checkOutputNames(request, task.outputs)
    return callPipeline(engine, task, adapter, input, request.parameters, options)
  }
  if (engine.signature === undefined) {
    const expected =
      task === undefined ? 'this model has no inputs in this protocol' : `expected ${task.input} alone`
    throw invalid('inputs', expected)
  }
  check(tensorParameters, request.parameters, 'parameters')
  checkOutputNames(request, describeTensors(engine.signature.outputs))
  return runTensors(engine, adapter, inputs, options)
}

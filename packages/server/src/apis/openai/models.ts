/** `GET /v1/models`: the base model and its adapters, as vLLM lists them. */
import type { Engine, ListedAdapter } from '../../engine.js'
import { adapterOf, type RequestContext } from '../context.js'

const seconds = (milliseconds: number) => Math.floor(milliseconds / 1000)

function baseEntry(engine: Engine) {
  return {
    id: engine.model,
    object: 'model',
    created: seconds(engine.created),
    owned_by: 'fourierft',
    root: engine.model,
    parent: null,
    // Not OpenAI's: what the model can be asked, which requests share batches, and whether it has a chat template.
    task: engine.task,
    joining: engine.joining,
    ...(engine.task === 'text-generation' && { chat: Boolean(engine.pipe.tokenizer.chat_template) }),
  }
}

function adapterEntry(engine: Engine, { name, modified, isResident, isPinned }: ListedAdapter) {
  return {
    id: name,
    object: 'model',
    created: seconds(modified ?? engine.created),
    owned_by: 'fourierft',
    root: name,
    parent: engine.model,
    task: engine.task,
    resident: isResident,
    pinned: isPinned,
  }
}

export async function listModels(c: RequestContext, engine: Engine): Promise<Response> {
  c.set('api', 'models')
  const adapters = await engine.list()
  const data = [baseEntry(engine), ...adapters.map((adapter) => adapterEntry(engine, adapter))]
  return c.json({ object: 'list', data })
}

export async function retrieveModel(c: RequestContext, engine: Engine, name: string): Promise<Response> {
  c.set('api', 'models')
  const adapter = adapterOf(c, engine, name)
  if (adapter === null) return c.json(baseEntry(engine))
  const find = async () => (await engine.list()).find((other) => other.name === adapter)
  let listed = await find()
  if (listed === undefined) {
    // Names of the hub and those of a function are listed only when they have been loaded.
    await engine.prepare(adapter, { signal: c.get('signal') })
    listed = await find()
  }
  return c.json(
    adapterEntry(
      engine,
      listed ?? { name: adapter, modified: undefined, isResident: false, isPinned: false },
    ),
  )
}

/** `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`, named as in vLLM. They exist only on a server with an `adminToken`. */
import * as v from 'valibot'
import { isAdapterName } from '../../adapter-name.js'
import type { Engine } from '../../engine.js'
import { check, text } from '../check.js'
import { type ApiContext, type RequestContext, readJson } from '../context.js'

const name = v.pipe(
  text,
  v.check(
    isAdapterName,
    'expected 1 to 200 letters, digits, dots, underscores and hyphens, not beginning with a dot or hyphen',
  ),
)
const path = v.pipe(
  text,
  v.minLength(1, 'expected a path or a repository'),
  v.maxLength(4096, 'expected at most 4096 characters'),
)
const LOAD = v.object({ lora_name: name, lora_path: path }, 'expected a JSON object')
const UNLOAD = v.object({ lora_name: name }, 'expected a JSON object')

export async function loadAdapter(
  c: RequestContext,
  engine: Engine,
  { maxBodyBytes }: ApiContext,
): Promise<Response> {
  c.set('api', 'load_adapter')
  const fields = check(LOAD, await readJson(c, maxBodyBytes))
  c.set('adapter', fields.lora_name)
  await engine.load(fields.lora_name, fields.lora_path, { signal: c.get('signal') })
  return c.text(`Success: LoRA adapter '${fields.lora_name}' added successfully.`)
}

export async function unloadAdapter(
  c: RequestContext,
  engine: Engine,
  { maxBodyBytes }: ApiContext,
): Promise<Response> {
  c.set('api', 'unload_adapter')
  const fields = check(UNLOAD, await readJson(c, maxBodyBytes))
  c.set('adapter', fields.lora_name)
  await engine.unload(fields.lora_name)
  return c.text(`Success: LoRA adapter '${fields.lora_name}' removed successfully.`)
}

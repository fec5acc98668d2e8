/** `headFor`: the head that a model exported without one needs for a task. */
import { FourierFTError } from '@fourierft/core'
import { ARCHITECTURES, type HeadShape, type HeadTask } from './architectures.js'

/** The part of a model's config.json that determines its head. */
export interface HeadConfig {
  readonly model_type?: unknown
  readonly hidden_size?: unknown
  /** DistilBERT's name of `hidden_size`. */
  readonly dim?: unknown
  /** DeBERTa's activation. */
  readonly pooler_hidden_act?: unknown
}

/** An output of the model. In `dims`, numbers are fixed sizes; undefined if they are unknown. */
export interface ModelOutput {
  readonly name: string
  readonly dims: readonly unknown[] | undefined
}

/** A head that {@link addHead} can add to a model. */
export interface Head {
  /** The output of the model that the head reads. */
  readonly input: string
  /** The number of features of that output. */
  readonly features: number
  readonly pooling: 'every' | 'first' | 'first and mean' | 'none'
  readonly hidden: HeadShape['hidden']
  /** The module of the layer that computes the logits. */
  readonly output: string
  /** The name of the encoder in the model with a head. */
  readonly root: string
}

/** The name of the output that a head adds. */
export const LOGITS = 'logits'

/**
 * Returns the head of a model's architecture.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for an architecture or a task that `ARCHITECTURES` does not have, and for a model without an output that
 *   has the last hidden state
 */
export function headFor(task: HeadTask, config: HeadConfig, outputs: readonly ModelOutput[]): Head {
  const { model_type: modelType, pooler_hidden_act: activation = 'gelu' } = config
  const architecture = typeof modelType === 'string' ? ARCHITECTURES.get(modelType) : undefined
  const shape = architecture?.tasks[task]
  const unsupported = (problem: string, expected: readonly string[]) =>
    new FourierFTError('UNSUPPORTED', `the model was exported without a head for ${task}, and ${problem}`, {
      advice: 'export the model with its head',
      expected,
      received: modelType,
    })
  if (architecture === undefined || shape === undefined) {
    const known = [...ARCHITECTURES].filter(([, { tasks }]) => task in tasks).map(([name]) => name)
    const named = typeof modelType === 'string' ? `'${modelType}'` : 'unknown'
    throw unsupported(`its architecture is ${named}; a head can be added to ${known.join(', ')}`, known)
  }
  if (shape.hidden?.activation === 'Gelu' && activation !== 'gelu')
    throw unsupported(`the activation of its head is '${activation}'; expected 'gelu'`, ['gelu'])
  const { root, tasks: _ } = architecture
  const { output, hidden } = shape
  const pooled = outputs.find(({ name }) => name === 'pooler_output')
  if (shape.pooling === 'pooler' && pooled)
    return {
      input: pooled.name,
      features: featuresOf(pooled, config),
      pooling: 'none',
      hidden: undefined,
      output,
      root,
    }
  const tokens = lastHiddenState(outputs)
  if (tokens === undefined) {
    const names = outputs.map(({ name }) => name)
    throw unsupported(`none of its outputs is the last hidden state: ${names.join(', ')}`, [
      'last_hidden_state',
    ])
  }
  const pooling = shape.pooling === 'pooler' ? 'first' : shape.pooling
  return { input: tokens.name, features: featuresOf(tokens, config), pooling, hidden, output, root }
}

/** The modules whose weights an adapter must have. */
export function headModules({ hidden, output }: Head): string[] {
  return hidden ? [hidden.module, output] : [output]
}

/** Children of encoders, which follow the name of the encoder, or the wrapper that the exporter had around it. */
const CHILD = /(?:^|\.)(?:embeddings|embeddings_project|encoder|transformer|layers|layernorm|pooler)(?:\.|$)/

/** Returns the name that a module of the file has in the model with a head. */
export function nameWithHead(head: Head, module: string): string {
  const { root } = head
  const start = CHILD.exec(module)?.index
  if (start === undefined || headModules(head).includes(module)) return module
  return `${root}.${module.slice(start).replace(/^\./, '')}`
}

/** Names of outputs with one vector for each token. */
const HIDDEN_STATES = ['last_hidden_state', 'token_embeddings']

/** Returns the output by its name, or else the only one of three dims of which the last one is fixed. */
function lastHiddenState(outputs: readonly ModelOutput[]): ModelOutput | undefined {
  const named = HIDDEN_STATES.flatMap((name) => outputs.find((output) => output.name === name) ?? [])
  const fitting = outputs.filter(({ dims }) => dims?.length === 3 && isSize(dims[2]))
  return named[0] ?? (fitting.length === 1 ? fitting[0] : undefined)
}

function featuresOf({ dims, name }: ModelOutput, { hidden_size, dim }: HeadConfig): number {
  const size = [dims?.at(-1), hidden_size, dim].find(isSize)
  if (size !== undefined) return size
  throw new FourierFTError(
    'UNSUPPORTED',
    `the number of features of the output '${name}' is unknown: neither the model nor its config.json (hidden_size) contains it`,
    { received: dims },
  )
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0
}

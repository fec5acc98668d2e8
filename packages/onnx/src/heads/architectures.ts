/**
 * The classification heads of architectures: what `AutoModelForSequenceClassification`, `AutoModelForTokenClassification` and
 * `AutoModelForImageClassification` of Hugging Face's transformers compute from the last hidden state, with their names of modules. One row for each
 * architecture. All linear layers have a bias.
 *
 * @see https://github.com/huggingface/transformers `src/transformers/models`, version 5
 */

/** The tasks whose pipelines read `logits`, as transformers.js names them. */
export const HEAD_TASKS = ['text-classification', 'token-classification', 'image-classification'] as const

export type HeadTask = (typeof HEAD_TASKS)[number]

/** What one task computes from the last hidden state `[batch, tokens, features]`. */
export interface HeadShape {
  /**
   * What the head reads: every token, the first one, or the first one and the mean of the others, joined. `pooler` is the first one if the file
   * has no output `pooler_output`, and otherwise that output, which the encoder's own `hidden` layer has computed.
   */
  readonly pooling: 'every' | 'first' | 'first and mean' | 'pooler'
  /** A layer from the features to as many features, before the classifier. */
  readonly hidden?: { readonly module: string; readonly activation: 'Tanh' | 'Relu' | 'Gelu' }
  /** The module of the layer that computes the logits. */
  readonly output: string
}

export interface Architecture {
  /** The name of the encoder in the model with a head: the first part of the names of its modules. */
  readonly root: string
  readonly tasks: Readonly<Partial<Record<HeadTask, HeadShape>>>
}

type Hidden = NonNullable<HeadShape['hidden']>

const EVERY_TOKEN: HeadShape = { pooling: 'every', output: 'classifier' }

function text(root: string, sequence: HeadShape): Architecture {
  return { root, tasks: { 'text-classification': sequence, 'token-classification': EVERY_TOKEN } }
}

function firstToken(module: string, activation: Hidden['activation'], output = 'classifier'): HeadShape {
  return { pooling: 'first', hidden: { module, activation }, output }
}

/** A hidden layer that belongs to the encoder. Exporters leave it out if they export only the last hidden state. */
function pooler(module: string): HeadShape {
  return { pooling: 'pooler', hidden: { module, activation: 'Tanh' }, output: 'classifier' }
}

const robertaHead = firstToken('classifier.dense', 'Tanh', 'classifier.out_proj')

function image(root: string, pooling: HeadShape['pooling'] = 'first'): Architecture {
  return { root, tasks: { 'image-classification': { pooling, output: 'classifier' } } }
}

/** By `model_type` of config.json. */
export const ARCHITECTURES: ReadonlyMap<string, Architecture> = new Map([
  ['albert', text('albert', pooler('albert.pooler'))],
  ['bert', text('bert', pooler('bert.pooler.dense'))],
  ['camembert', text('roberta', robertaHead)],
  ['deberta', text('deberta', firstToken('pooler.dense', 'Gelu'))],
  ['deberta-v2', text('deberta', firstToken('pooler.dense', 'Gelu'))],
  ['deit', image('deit')],
  ['dinov2', image('dinov2', 'first and mean')],
  ['distilbert', text('distilbert', firstToken('pre_classifier', 'Relu'))],
  ['electra', text('electra', firstToken('classifier.dense', 'Gelu', 'classifier.out_proj'))],
  ['mpnet', text('mpnet', firstToken('classifier.dense', 'Tanh', 'classifier.out_proj'))],
  ['roberta', text('roberta', robertaHead)],
  ['vit', image('vit')],
  ['vit_msn', image('vit')],
  ['xlm-roberta', text('roberta', robertaHead)],
])

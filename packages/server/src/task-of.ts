/** `taskOf`: the task of a model, from the name of its class in transformers. */
import { FourierFTError } from '@fourierft/core'

/** The ends of the names of classes. */
const TASKS: readonly (readonly [RegExp, string])[] = [
  [/ForSequenceClassification$/, 'text-classification'],
  [/ForTokenClassification$/, 'token-classification'],
  [/ForImageClassification$/, 'image-classification'],
  [/ForQuestionAnswering$/, 'question-answering'],
  [/ForMaskedLM$/, 'fill-mask'],
  [/(ForCausalLM|LMHeadModel)$/, 'text-generation'],
  [/ForConditionalGeneration$/, 'text2text-generation'],
  [/Model$/, 'feature-extraction'],
]

/** @throws {FourierFTError} `INVALID_OPTION` if the configuration does not say it */
export function taskOf(config: object, model: string): string {
  const { architectures } = config as { readonly architectures?: unknown }
  const [name] = Array.isArray(architectures) ? architectures : []
  const found = TASKS.find(([pattern]) => typeof name === 'string' && pattern.test(name))
  if (found) return found[1]
  throw new FourierFTError(
    'INVALID_OPTION',
    `task: the config.json of ${model} does not show the task of the model`,
    {
      advice: 'give the task, for example text-classification, feature-extraction or text-generation',
      option: 'task',
      received: name,
    },
  )
}

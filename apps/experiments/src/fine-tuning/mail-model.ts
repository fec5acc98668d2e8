/**
 * paraphrase-MiniLM-L3-v2 as a text-classification pipeline of transformers.js. The file was exported without a head. `packages/onnxruntime/scripts/minilm.js`
 * fetches it; the build of the playground writes its configuration and its tokenizer.
 */
import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  AutoConfig,
  AutoModelForSequenceClassification,
  AutoTokenizer,
  env,
  LogLevel,
  TextClassificationPipeline,
} from '@huggingface/transformers'

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url))

/** The folder in which experiments keep downloaded data. */
export const cacheFolder = join(ROOT, '.cache')
const WEIGHTS = 'minilm-0.2.1'

export interface MailModel {
  readonly classify: TextClassificationPipeline
  /** The ONNX file. */
  readonly bytes: Uint8Array
}

/** The modules that the experiments adapt. */
export const targetModules = ['query', 'value']

/** @throws {Error} with the command that fetches the model if it is missing */
export async function openMailModel(): Promise<MailModel> {
  const file = join(cacheFolder, WEIGHTS, 'model.onnx')
  await access(file).catch(() => {
    throw new Error(`${file} is missing: node packages/onnxruntime/scripts/minilm.js fetches it`)
  })
  env.allowRemoteModels = false
  env.logLevel = LogLevel.ERROR
  env.localModelPath = join(ROOT, 'apps/playground/dist/models')
  const config = await AutoConfig.from_pretrained('minilm')
  const tokenizer = await AutoTokenizer.from_pretrained('minilm')
  env.localModelPath = cacheFolder
  const model = await AutoModelForSequenceClassification.from_pretrained(WEIGHTS, {
    config,
    subfolder: '',
    dtype: 'fp32',
    // The processor time of several threads depends on what else the machine does.
    session_options: { intraOpNumThreads: 1 },
  })
  return {
    classify: new TextClassificationPipeline({ task: 'text-classification', model, tokenizer }),
    bytes: await readFile(file),
  }
}

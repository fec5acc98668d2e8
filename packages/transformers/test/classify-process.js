/** Classifies a text in a process of its own: node classify-process.js MODELS MODEL ADAPTER TEXT. It prints the labels and their scores as JSON. */
import { attach } from '@fourierft/transformers'
import { env, pipeline } from '@huggingface/transformers'

const [models, model, adapter, text] = process.argv.slice(2)
env.localModelPath = models
env.allowRemoteModels = false
const classify = await pipeline('text-classification', model, { dtype: 'fp32' })
await (await attach(classify, { native: false })).loadAdapter(adapter)
console.log(JSON.stringify(await classify(text, { top_k: 10 })))

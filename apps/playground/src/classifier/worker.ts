/** The worker of the classifier page: MiniLM in transformers.js, and the adapter that is trained. The page does not wait for it. */
import { FourierFTError } from '@fourierft/core'
import { attach, type ModelAdapters, train } from '@fourierft/transformers'
import { pipeline, type TextClassificationPipeline } from '@huggingface/transformers'
import { MODEL, useLocalModel } from '../local-model.js'
import type { AdapterBytes, Answer, Calls, Failure, Reply, Request, Settings, Trained } from './calls.js'
import type { Example } from './examples.js'

/** A dozen examples give three steps in each epoch. */
const batchSize = 4

class Classifier implements Calls {
  #pipeline: TextClassificationPipeline | undefined
  #adapters: ModelAdapters | undefined
  #training = new AbortController()
  #count = 0

  async load(page: string): Promise<void> {
    await useLocalModel(page)
    this.#pipeline = await pipeline('text-classification', MODEL, { dtype: 'fp32', device: 'wasm' })
    this.#adapters = await attach(this.#pipeline)
  }

  async train(examples: readonly Example[], { epochs, nFrequency }: Settings): Promise<Trained> {
    const { adapters } = this.#loaded()
    const old = adapters.activeAdapters
    const adapter = `classifier ${++this.#count}`
    this.#training = new AbortController()
    await adapters.addAdapter(adapter, { targetModules: ['query', 'value'], nFrequency })
    adapters.setAdapter(old)
    try {
      const { steps, seconds, stopped } = await train(adapters, examples, {
        adapter,
        epochs,
        batchSize,
        signal: this.#training.signal,
        progress_callback: ({ loaded, total, loss }) =>
          postMessage({ step: { step: loaded, steps: total, loss } } satisfies Reply),
      })
      adapters.setAdapter(adapter)
      for (const name of old) adapters.deleteAdapter(name)
      const { modules } = await adapters.getAdapter(adapter)
      return {
        steps: steps.length,
        seconds,
        isStopped: stopped === 'aborted',
        right: await this.#right(examples),
        coefficients: [...modules.values()].reduce((sum, { coefficients }) => sum + coefficients.length, 0),
      }
    } catch (error) {
      adapters.deleteAdapter(adapter)
      throw error
    }
  }

  async stop(): Promise<void> {
    this.#training.abort()
  }

  async classify(text: string): Promise<readonly Answer[]> {
    return (await this.#loaded().pipeline(text, { top_k: null })) as Answer[]
  }

  async save(): Promise<AdapterBytes> {
    return (await this.#loaded().adapters.getAdapter()).toBytes()
  }

  async #right(examples: readonly Example[]): Promise<number> {
    let right = 0
    for (const { text, label } of examples) {
      const [answer] = await this.classify(text)
      if (answer?.label === label) right++
    }
    return right
  }

  #loaded() {
    if (this.#pipeline === undefined || this.#adapters === undefined)
      throw new Error('the encoder is not loaded yet')
    return { pipeline: this.#pipeline, adapters: this.#adapters }
  }
}

const classifier = new Classifier()

addEventListener('message', async ({ data: { id, name, args } }: MessageEvent<Request>) => {
  const call = classifier[name] as (...args: unknown[]) => Promise<unknown>
  const reply: Reply = await call.apply(classifier, args).then(
    (value) => ({ id, value }),
    (error) => ({ id, failure: failureOf(error) }),
  )
  postMessage(reply)
})

/** Structured clones of errors have no details. */
function failureOf(error: unknown): Failure {
  const message = error instanceof Error ? error.message : `${error}`
  const row = FourierFTError.isInstance(error) ? error.details.row : undefined
  return typeof row === 'number' ? { message, row } : { message }
}

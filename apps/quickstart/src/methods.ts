/** The methods that the demo compares, with one interface: attach, train the variables, save, detach. */
import { join } from 'node:path'
import { MODEL_FILE } from '@fourierft/core'
import { type Adapters, attach } from '@fourierft/tfjs'
import type * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { baseConfig } from './base-settings.js'
import { writeCheckpoint } from './checkpoint-files.js'
import { attachLora, saveLora } from './lora.js'
import { weightsOf } from './model-weights.js'
import { fourierSettings, fullSettings, loraSettings, targetModules } from './settings.js'
import { allVariables } from './vision-transformer.js'

/** A method attached to a model. */
export interface AttachedMethod {
  /** The trained variables. Nothing else changes. */
  readonly variables: tf.Variable[]
  /** Writes the trained parameters. @returns the path of their file */
  save(folder: string): Promise<string>
  /** Restores the model, bit for bit. */
  detach(): void
}

export interface Method {
  readonly name: string
  /** The folder of its results. */
  readonly folder: string
  readonly learningRate: number
  attach(model: LayersModel, seed: number): AttachedMethod
}

/** Coefficients start at zero (PEFT's `init_weights: true`), so that every method starts at the frozen model's loss. */
export const fourierft = {
  name: 'FourierFT',
  folder: 'fourierft',
  learningRate: fourierSettings.learningRate,
  attach(model: LayersModel, seed: number): AttachedMethod & { readonly adapters: Adapters } {
    const { nFrequency, scaling } = fourierSettings
    const adapters = attach(model, {
      targetModules,
      nFrequency,
      scaling,
      randomLocSeed: seed,
      initWeights: true,
    })
    return {
      adapters,
      variables: adapters.trainableVariables,
      async save(folder) {
        await adapters.savePretrained(folder)
        return join(folder, MODEL_FILE)
      },
      detach: () => adapters.detach(),
    }
  },
} satisfies Method

export const loraMethods: readonly Method[] = loraSettings.map(({ learningRate, ...settings }) => ({
  name: `LoRA, rank ${settings.rank}`,
  folder: `lora-rank-${settings.rank}`,
  learningRate,
  attach(model, seed) {
    const adapter = attachLora(model, { ...settings, targetModules, seed })
    return {
      variables: adapter.pairs.flatMap(({ a, b }) => [a, b]),
      save: (folder) => saveLora(adapter, folder),
      detach: adapter.detach,
    }
  },
}))

/** Every weight of the model, the classifier and the embeddings included. */
export const fullFineTuning: Method = {
  name: 'Full fine-tuning',
  folder: 'full-fine-tuning',
  learningRate: fullSettings.learningRate,
  attach(model) {
    const variables = allVariables(model)
    const original = variables.map((variable) => ({ variable, value: variable.clone() }))
    return {
      variables,
      save: (folder) => writeCheckpoint(folder, { config: baseConfig, weights: weightsOf(model) }),
      detach() {
        for (const { variable, value } of original) {
          variable.assign(value)
          value.dispose()
        }
      },
    }
  },
}

export const methods: readonly Method[] = [fourierft, ...loraMethods, fullFineTuning]

export const countParameters = (variables: readonly tf.Variable[]): number =>
  variables.reduce((count, variable) => count + variable.size, 0)

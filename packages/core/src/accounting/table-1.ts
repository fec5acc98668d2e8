/**
 * The models of table 1 of the paper: the shapes of their adapted layers (query and value of each block), and the numbers that the table
 * prints. These numbers serve only for comparison; this project computes every number that it reports.
 */
import type { Shape } from '../entries/entries.js'
import { FourierFTError } from '../errors.js'
import type { MethodSize } from './count-parameters.js'

/** A model of table 1. */
export interface Preset {
  readonly name: PresetName
  /** The name of the model in the table. */
  readonly model: string
  /** `[out, in]` of each adapted layer, by module name. */
  readonly shapes: Readonly<Record<string, Shape>>
  readonly rows: readonly PublishedRow[]
}

/** One row of table 1. `parameters` and `bytes` are printed as in the paper: `147K` and `574KB`. In the paper K is 1000, and KB mostly 1024. */
export interface PublishedRow {
  readonly size: MethodSize
  readonly parameters: string
  readonly bytes: string
}

/** Names of the two adapted modules of block `i`. */
type ModuleNames = (block: number) => readonly string[]

const roberta: ModuleNames = (i) => [
  `roberta.encoder.layer.${i}.attention.self.query`,
  `roberta.encoder.layer.${i}.attention.self.value`,
]
/** GPT-2 has query and value in one fused layer, `attn.c_attn`; the table counts them as two layers. */
const gpt2: ModuleNames = (i) => [`transformer.h.${i}.attn.query`, `transformer.h.${i}.attn.value`]
const llama: ModuleNames = (i) => [`model.layers.${i}.self_attn.q_proj`, `model.layers.${i}.self_attn.v_proj`]
const vit: ModuleNames = (i) => [
  `vit.encoder.layer.${i}.attention.attention.query`,
  `vit.encoder.layer.${i}.attention.attention.value`,
]

function lora(rank: number, parameters: string, bytes: string): PublishedRow {
  return { size: { method: 'lora', rank }, parameters, bytes }
}

function fourierft(n: number, parameters: string, bytes: string): PublishedRow {
  return { size: { method: 'fourierft', n }, parameters, bytes }
}

interface Model {
  readonly model: string
  readonly moduleNames: ModuleNames
  readonly blocks: number
  /** Width of the model; every adapted layer is `[width, width]`. */
  readonly width: number
  readonly rows: readonly PublishedRow[]
}

const MODELS = {
  'roberta-base': {
    model: 'RoBERTa Base',
    moduleNames: roberta,
    blocks: 12,
    width: 768,
    rows: [
      lora(4, '147K', '574KB'),
      lora(8, '295K', '1.13MB'),
      fourierft(200, '4.8K', '18.8KB'),
      fourierft(1000, '24K', '94KB'),
    ],
  },
  'roberta-large': {
    model: 'RoBERTa Large',
    moduleNames: roberta,
    blocks: 24,
    width: 1024,
    rows: [
      lora(4, '393K', '1.5MB'),
      lora(8, '786K', '3MB'),
      fourierft(200, '9.6K', '36.5KB'),
      fourierft(1000, '48K', '183KB'),
    ],
  },
  'gpt2-medium': {
    model: 'GPT-2 Medium',
    moduleNames: gpt2,
    blocks: 24,
    width: 1024,
    rows: [
      lora(4, '350K', '1.34MB'),
      lora(8, '786K', '3MB'),
      fourierft(500, '24K', '94KB'),
      fourierft(1000, '48K', '188KB'),
    ],
  },
  'gpt2-large': {
    model: 'GPT-2 Large',
    moduleNames: gpt2,
    blocks: 36,
    width: 1280,
    rows: [
      lora(4, '737K', '2.81MB'),
      lora(8, '1.47M', '5.74MB'),
      fourierft(500, '36K', '141KB'),
      fourierft(1000, '72K', '282KB'),
    ],
  },
  'llama2-7b': {
    model: 'LLaMA-2 7B',
    moduleNames: llama,
    blocks: 32,
    width: 4096,
    rows: [
      lora(16, '8.39M', '32.8MB'),
      lora(64, '33.5M', '131.1MB'),
      fourierft(1000, '64K', '250KB'),
      fourierft(2000, '128K', '500KB'),
    ],
  },
  'llama2-13b': {
    model: 'LLaMA-2 13B',
    moduleNames: llama,
    blocks: 40,
    width: 5120,
    rows: [
      lora(16, '13.1M', '51.2MB'),
      lora(64, '52.4M', '204.8MB'),
      fourierft(1000, '80K', '312KB'),
      fourierft(2000, '160K', '625KB'),
    ],
  },
  'vit-base': {
    model: 'ViT Base',
    moduleNames: vit,
    blocks: 12,
    width: 768,
    rows: [
      lora(8, '295K', '1.13MB'),
      lora(16, '590K', '2.25MB'),
      fourierft(3000, '72K', '281KB'),
      fourierft(10000, '239K', '934KB'),
    ],
  },
  'vit-large': {
    model: 'ViT Large',
    moduleNames: vit,
    blocks: 24,
    width: 1024,
    rows: [
      lora(8, '786K', '2.93MB'),
      lora(16, '1.57M', '6MB'),
      fourierft(3000, '144K', '563KB'),
      fourierft(10000, '480K', '1.83MB'),
    ],
  },
} as const satisfies Record<string, Model>

export type PresetName = keyof typeof MODELS

/** The names of the presets, in the order of the table. */
export const presetNames = Object.keys(MODELS) as readonly PresetName[]

/**
 * Returns one model of table 1.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for an unknown name; the message lists the presets
 */
export function preset(name: string): Preset {
  if (!isPresetName(name)) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `preset: expected one of ${presetNames.join(', ')}; received ${name}`,
      {
        option: 'preset',
        expected: presetNames,
        received: name,
      },
    )
  }
  const { model, moduleNames, blocks, width, rows } = MODELS[name]
  const modules = Array.from({ length: blocks }, (_, block) => moduleNames(block)).flat()
  return { name, model, shapes: Object.fromEntries(modules.map((module) => [module, [width, width]])), rows }
}

function isPresetName(name: string): name is PresetName {
  return Object.hasOwn(MODELS, name)
}

/** The parts of an adapter. These types have their own file because the adapter, its reader and its writer import them. */

import type { Entries, EntriesRecipe, Shape } from '../entries/entries.js'
import type { AdapterBytes } from '../files/adapter-bytes.js'
import type { FloatDtype, Tensor } from '../files/safetensors.js'
import type { FourierFTConfig } from './config.js'

/** One module of an adapter. */
export interface AdaptedModule {
  readonly name: string
  /** `c` in float32, the precision of all computations; the numbers of an F64 file are rounded. */
  readonly coefficients: Float32Array
  /** The dtype of the coefficients in the file. */
  readonly dtype: FloatDtype
  /** `[d1, d2]` = `[out, in]`; absent if neither the file nor the caller specifies it. */
  readonly shape?: Shape
  /** How the entries are made. */
  readonly recipe: EntriesRecipe
  /** The entries, from the file or the caller. If absent, `layer` makes them from the recipe. */
  readonly entries?: Entries
  /** The digest that the entries must have. */
  readonly digest?: string
}

export interface AdapterParts {
  readonly config: FourierFTConfig
  readonly modules: ReadonlyMap<string, AdaptedModule>
  /** Weights and biases of the modules in `modules_to_save`, and trained biases, under their full names. */
  readonly savedTensors?: ReadonlyMap<string, Tensor>
  /**
   * Weights of the base model that the file also contains (`save_embedding_layers` of PEFT), under their full names:
   * `base_model.model.model.embed_tokens.weight`, or `base_model.model.lm_head.base_layer.weight` for a module that is adapted too.
   */
  readonly baseTensors?: ReadonlyMap<string, Tensor>
  /** Names of the tensors in the file that the configuration does not target; they are not read. */
  readonly ignoredTensors?: readonly string[]
  /** The `__metadata__` of the safetensors header. */
  readonly metadata?: Readonly<Record<string, string>>
  /** The files from which these parts were read. */
  readonly source?: AdapterBytes
}

/** Shapes `[out, in]` of a model's layers, by module name; names that the adapter does not have are ignored. */
export type Shapes = Readonly<Record<string, Shape>>

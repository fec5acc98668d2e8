/**
 * What this package uses of TensorFlow.js's layers beyond their public types, in one place, and checked when it is first needed: fields
 * of its layers, the layers inside of layers, and where a compiled model keeps the list of weights that `fit` trains.
 */
import { FourierFTError } from '@fourierft/core'
import { type Scalar, type Tensor, Variable } from '@tensorflow/tfjs-core'
import { LayersModel, type LayerVariable, layers, RNN, version_layers } from '@tensorflow/tfjs-layers'

export type AnyLayer = layers.Layer

export interface Activation {
  apply(x: Tensor): Tensor
}

/**
 * A layer's fields that its public type does not have.
 *
 * @param checks what each field has to be
 * @throws {FourierFTError} `UNSUPPORTED` if one of them is something else
 */
export function layerFields<T extends object>(
  layer: AnyLayer,
  checks: { readonly [K in keyof T]: (value: unknown) => boolean },
): T {
  const parts = layer as unknown as T
  const fields = Object.keys(checks) as (keyof T & string)[]
  if (fields.every((field) => checks[field](parts[field]))) return parts
  throw unknownVersion(layer.getClassName(), fields.join(', '))
}

export function isWeight(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'read' in value
}

export function isActivation(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'apply' in value
}

/**
 * The layers that a layer holds: those of a model, the one inside of a wrapper such as `TimeDistributed`, and those in fields (or arrays in
 * fields) of attention layers and of layers that users wrote. The cell of a recurrent layer is part of that layer.
 */
export function sublayers(layer: AnyLayer): AnyLayer[] {
  if (layer instanceof LayersModel) return layer.layers
  if (layer instanceof RNN) return []
  return Object.values(layer)
    .flat()
    .filter((value): value is AnyLayer => value instanceof layers.Layer)
}

/** The variable behind a `LayerVariable`; writing to it directly leaves the user's kernel constraints out of it. */
export function variableOf(weight: LayerVariable): Variable {
  const value = weight.read()
  if (value instanceof Variable) return value
  throw new FourierFTError('INVALID_STATE', `weight '${weight.name}' is no variable of this TensorFlow.js`, {
    tensor: weight.name,
  })
}

/** Trains or tests one batch. */
type BatchFunction = (data: Tensor[]) => Scalar[]

/** What `LayersModel.fit` reads its variables from, and what it runs for each batch. */
export interface TrainingModel extends Pick<LayersModel, 'evaluate' | 'evaluateDataset'> {
  /** Set by `compile`. */
  collectedTrainableWeights: LayerVariable[] | null | undefined
  /** Warns where that list has another length than `trainableWeights`. */
  checkTrainableWeightsConsistency(): void
  makeTrainFunction(): BatchFunction
  /** Sets `testFunction`. */
  makeTestFunction(): void
  testFunction: BatchFunction | undefined
}

/** The object that `compile` and `fit` work on: a `Sequential` model makes a new one inside of itself each time it is compiled. */
export function trainingModel(model: LayersModel): TrainingModel {
  const inner = (model as unknown as { model?: LayersModel }).model
  const training = (inner ?? model) as unknown as TrainingModel
  return training
}

/** Whether an optimizer has moments (or the like) from earlier steps. It keeps them by position in the list of trained weights. */
export function hasState(optimizer: object): boolean {
  return Object.values(optimizer).some((field) => Array.isArray(field) && field.some(isMoment))
}

function isMoment(item: unknown): boolean {
  return typeof item === 'object' && item !== null && 'variable' in item
}

function unknownVersion(className: string, fields: string): FourierFTError {
  return new FourierFTError(
    'UNSUPPORTED',
    `@tensorflow/tfjs-layers ${version_layers}: a ${className} layer without ${fields}; this package was made for 4.22`,
    { expected: fields, received: version_layers },
  )
}

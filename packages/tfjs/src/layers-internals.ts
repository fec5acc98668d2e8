/**
 * The parts of TensorFlow.js's layers that this package uses and that are not in their public types. They are collected here, and checked
 * when they are first used: fields of layers, layers inside layers, and the list of weights that `fit` trains.
 */
import { FourierFTError } from '@fourierft/core'
import { type Scalar, type Tensor, Variable } from '@tensorflow/tfjs-core'
import { LayersModel, type LayerVariable, layers, RNN, version_layers } from '@tensorflow/tfjs-layers'

export type AnyLayer = layers.Layer

export interface Activation {
  apply(x: Tensor): Tensor
}

/**
 * Returns the fields of a layer that its public type does not have.
 *
 * @param checks a check for each field
 * @throws {FourierFTError} `UNSUPPORTED` if one of the checks fails
 */
export function layerFields<T extends object>(
  layer: AnyLayer,
  checks: { readonly [K in keyof T]: (value: unknown) => boolean },
): T {
  const fields = layer as unknown as T
  const names = Object.keys(checks) as (keyof T & string)[]
  if (names.every((name) => checks[name](fields[name]))) return fields
  throw unknownVersion(layer.getClassName(), names.join(', '))
}

export function isWeight(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'read' in value
}

export function isActivation(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'apply' in value
}

/**
 * Returns the layers that a layer contains: the layers of a model, the layer inside a wrapper such as `TimeDistributed`, and the layers in fields
 * (or in arrays in fields) of attention layers and custom layers. The cell of a recurrent layer does not count as a layer.
 */
export function sublayers(layer: AnyLayer): AnyLayer[] {
  if (layer instanceof LayersModel) return layer.layers
  if (layer instanceof RNN) return []
  return Object.values(layer)
    .flat()
    .filter((value): value is AnyLayer => value instanceof layers.Layer)
}

/** Returns the variable inside a `LayerVariable`. Writing to it directly bypasses the user's kernel constraints. */
export function variableOf(weight: LayerVariable): Variable {
  const value = weight.read()
  if (value instanceof Variable) return value
  throw new FourierFTError(
    'INVALID_STATE',
    `weight '${weight.name}' is not a variable of this copy of TensorFlow.js`,
    {
      tensor: weight.name,
    },
  )
}

/** Trains or tests one batch. */
type BatchFunction = (data: Tensor[]) => Scalar[]

/** The fields and methods through which `LayersModel.fit` finds its variables and runs each batch. */
export interface TrainingModel extends Pick<LayersModel, 'evaluate' | 'evaluateDataset'> {
  /** Set by `compile`. */
  collectedTrainableWeights: LayerVariable[] | null | undefined
  /** Warns if the length of that list differs from the length of `trainableWeights`. */
  checkTrainableWeightsConsistency(): void
  makeTrainFunction(): BatchFunction
  /** Sets `testFunction`. */
  makeTestFunction(): void
  testFunction: BatchFunction | undefined
}

/** Returns the object that `compile` and `fit` work on: a `Sequential` model creates a new inner model each time it is compiled. */
export function trainingModel(model: LayersModel): TrainingModel {
  const inner = (model as unknown as { model?: LayersModel }).model
  const training = (inner ?? model) as unknown as TrainingModel
  return training
}

/** Returns whether an optimizer has moments (or similar state) from earlier steps. */
export function hasState(optimizer: object): boolean {
  return Object.values(optimizer).some((field) => Array.isArray(field) && field.some(isMoment))
}

function isMoment(item: unknown): boolean {
  return typeof item === 'object' && item !== null && 'variable' in item
}

function unknownVersion(className: string, fields: string): FourierFTError {
  return new FourierFTError(
    'UNSUPPORTED',
    `@tensorflow/tfjs-layers ${version_layers}: a ${className} layer has other fields than the expected ${fields}`,
    {
      advice: 'install version 4.22, which this package supports',
      expected: fields,
      received: version_layers,
    },
  )
}

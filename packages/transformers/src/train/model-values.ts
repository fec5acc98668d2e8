/** The inputs and outputs of the graph that is trained. */
import type { PreTrainedModel } from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-common'
import { sessionsOf } from '../library.js'
import type { ValueMetadata } from './task.js'

/** Returns the inputs and outputs of a model with one session, or of an encoder and a decoder that become one graph. */
export function modelValues(model: PreTrainedModel): {
  readonly inputs: readonly ValueMetadata[]
  readonly outputs: readonly ValueMetadata[]
} {
  const sessions = [...sessionsOf(model).values()]
  return {
    inputs: sessions.flatMap(({ inputNames, inputMetadata }) => described(inputNames, inputMetadata)),
    outputs: sessions.flatMap(({ outputNames, outputMetadata }) => described(outputNames, outputMetadata)),
  }
}

/** Versions of ONNX Runtime before 1.22 have no metadata. */
function described(
  names: readonly string[],
  metadata: readonly InferenceSession.ValueMetadata[] = [],
): ValueMetadata[] {
  return names.map((name) => {
    const found = metadata.find((value) => value.name === name)
    return found?.isTensor
      ? { name, type: found.type, shape: found.shape }
      : { name, type: 'unknown', shape: [] }
  })
}

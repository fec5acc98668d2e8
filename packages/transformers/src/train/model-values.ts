/** The inputs and outputs of the graph that is trained. */
import type { InferenceSession } from 'onnxruntime-common'
import { sessionsOf } from '../library.js'
import type { ModelAdapters } from '../model-adapters.js'
import type { ValueMetadata } from './task.js'

/** The outputs that losses read. Models without one of them have one session, whose outputs are embeddings. */
const PREFERRED = 'logits'

/** Returns the inputs of the graph that is trained, and the outputs of all sessions. */
export function modelValues(adapters: ModelAdapters): {
  readonly inputs: readonly ValueMetadata[]
  readonly outputs: readonly ValueMetadata[]
} {
  const outputs = [...sessionsOf(adapters.model).values()].flatMap(({ outputNames, outputMetadata }) =>
    described(outputNames, outputMetadata),
  )
  const output = outputs.find(({ name }) => name === PREFERRED) ?? outputs[0]
  const inputs = output ? adapters.trainingInputs(output.name) : []
  return {
    inputs: described(
      inputs.map(({ name }) => name),
      inputs,
    ),
    outputs,
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

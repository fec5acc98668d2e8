/** The option `preferredOutputLocation` in sessions of the native kernel: outputs that stay on the device of a session on CUDA. */
import { FourierFTError } from '@fourierft/core'
import type { OnnxDevice, OnnxValue } from '@fourierft/native'
import type { InferenceSession, Tensor } from 'onnxruntime-common'

type Locations = InferenceSession.SessionOptions['preferredOutputLocation']

/** The types of tensors that ONNX Runtime's class `Tensor` can have in a buffer on a device. */
const TYPES_IN_BUFFERS: readonly string[] = [
  'float32',
  'float16',
  'int32',
  'int64',
  'uint32',
  'uint8',
  'bool',
] satisfies Tensor.GpuBufferDataTypes[]

/**
 * Checks the locations before the session is created.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for a location that outputs of the session cannot have
 */
export function checkOutputLocations(preferred: Locations = 'cpu', device: OnnxDevice): void {
  const supported: readonly string[] = device === 'cpu' ? ['cpu'] : ['cpu', 'gpu-buffer']
  const locations = typeof preferred === 'string' ? [preferred] : Object.values(preferred)
  const received = locations.find((location) => !supported.includes(location))
  if (received === undefined) return
  const expected = supported.map((location) => `'${location}'`).join(' or ')
  const where = device === 'cpu' ? 'with the native kernel on the CPU' : 'with the native kernel on CUDA'
  throw new FourierFTError(
    'UNSUPPORTED',
    `preferredOutputLocation: expected ${expected} for a session ${where}; received '${received}'`,
    {
      advice:
        device === 'cpu'
          ? "leave the option out, or choose a provider that keeps tensors on its device: executionProviders: ['cuda', 'cpu'] or ['webgpu']"
          : "choose 'gpu-buffer'",
      option: 'preferredOutputLocation',
      expected: supported,
      received,
    },
  )
}

/**
 * Returns the outputs that stay on the device.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for a name that no output has; `UNSUPPORTED` for an output whose type cannot be on a device
 */
export function outputsOnDevice(
  preferred: Locations = 'cpu',
  outputs: readonly OnnxValue[],
): ReadonlySet<string> {
  const names = outputs.map(({ name }) => name)
  const option = 'preferredOutputLocation'
  if (typeof preferred !== 'string') {
    const unknown = Object.keys(preferred).find((name) => !names.includes(name))
    if (unknown !== undefined)
      throw new FourierFTError(
        'INVALID_OPTION',
        `${option}: the model has no output ${unknown}; expected ${names.join(', ')}`,
        { option, expected: names, received: unknown },
      )
  }
  const locationOf = (name: string) => (typeof preferred === 'string' ? preferred : preferred[name])
  const onDevice = outputs.filter(({ name }) => locationOf(name) === 'gpu-buffer')
  for (const output of onDevice) {
    const type = output.isTensor ? output.type : 'sequence or map'
    if (TYPES_IN_BUFFERS.includes(type)) continue
    throw new FourierFTError(
      'UNSUPPORTED',
      `${option}: output ${output.name} (${type}) cannot stay on a device; expected ${TYPES_IN_BUFFERS.join(', ')}`,
      {
        advice: 'name the other outputs: { name: "gpu-buffer" }',
        option,
        tensor: output.name,
        expected: TYPES_IN_BUFFERS,
        received: type,
      },
    )
  }
  return new Set(onDevice.map(({ name }) => name))
}

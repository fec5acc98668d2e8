/** `OnnxDeviceTensor`: an output of a session that stays in the memory of the session's device. */
import { type Addon, type DeviceHandle, promiseOf } from './addon.js'
import { type OnnxType, typedArray } from './onnx-types.js'

/**
 * A tensor in the memory of a session's device. It can be an input of every session on that device, without a copy. It keeps its session in memory until
 * `release` is called or the garbage collector frees it.
 */
export class OnnxDeviceTensor {
  readonly type: OnnxType
  readonly dims: readonly number[]
  readonly #addon: Addon
  readonly #handle: DeviceHandle

  /** Called by `OnnxSession.run`. */
  constructor(addon: Addon, type: OnnxType, dims: readonly number[], handle: DeviceHandle) {
    this.type = type
    this.dims = dims
    this.#addon = addon
    this.#handle = handle
  }

  /** The addon's handle of the tensor. */
  get handle(): DeviceHandle {
    return this.#handle
  }

  /**
   * Copies the numbers from the device.
   *
   * @throws {Error} with the code `INVALID_STATE` after `release`
   */
  async read(): Promise<ArrayBufferView> {
    return typedArray(
      this.type,
      await promiseOf<ArrayBuffer>((done) => this.#addon.readDeviceValue(this.#handle, done)),
    )
  }

  /** Frees the memory when the last call that uses it is done. */
  release(): void {
    this.#addon.releaseDeviceValue(this.#handle)
  }
}

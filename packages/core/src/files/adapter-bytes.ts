/** The two files of an adapter, in memory. */
export interface AdapterBytes {
  /** `adapter_config.json` */
  readonly config: Uint8Array
  /** `adapter_model.safetensors` */
  readonly model: Uint8Array
}

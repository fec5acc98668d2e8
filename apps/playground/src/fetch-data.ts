/** Fetches the page's data: the base model, and rotated digits for training and for testing. */
import {
  type Checkpoint,
  type DigitSet,
  decodeCheckpoint,
  degrees,
  rotateDigits,
} from '@fourierft/quickstart/browser'
import { unpackDigits } from './packed-digits.js'

export interface Data {
  readonly checkpoint: Checkpoint
  readonly adaptation: DigitSet
  readonly test: DigitSet
}

/** @throws if a file cannot be fetched; the message names it */
export async function fetchData(): Promise<Data> {
  const [config, model, adaptation, test] = await Promise.all(
    ['base/config.json', 'base/model.safetensors', 'digits/adaptation.bin', 'digits/test.bin'].map(
      fetchBytes,
    ),
  )
  if (!config || !model || !adaptation || !test) throw new Error('a file of the page is missing')
  return {
    checkpoint: decodeCheckpoint(new TextDecoder().decode(config), model, 'base/model.safetensors'),
    adaptation: rotateDigits(unpackDigits(adaptation), degrees),
    test: rotateDigits(unpackDigits(test), degrees),
  }
}

async function fetchBytes(name: string): Promise<Uint8Array> {
  const response = await fetch(new URL(name, document.baseURI))
  if (!response.ok) {
    throw new Error(`${name} could not be fetched (${response.status}); run npm run playground again`)
  }
  return new Uint8Array(await response.arrayBuffer())
}

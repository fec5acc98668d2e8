/**
 * `ResidentAdapter`: one adapter in memory, as small as its file. All of its numbers are in one buffer, as the file stores them; everything that other
 * adapters have in common with it (names, entries, positions in the buffer) is in a layout that they share.
 */
import {
  decodeFloats,
  type Entries,
  encodeFloats,
  type FloatDtype,
  type Layer,
  type Shape,
  savedTensor,
  type Tensor,
} from '@fourierft/core'
import type { ApplicableAdapter, ClassLabels, ReplacedModule } from '@fourierft/transformers/host'

/** An adapter that is matched to a model, part by part. @typeParam Part a session of the model */
export interface MatchedShares<Part> {
  readonly shares: ReadonlyMap<Part, MatchedShare>
  readonly labels: ClassLabels | undefined
}

/** The share of one part, and the dtypes of its numbers in the file. */
export interface MatchedShare extends ApplicableAdapter {
  readonly source: {
    readonly modules: ReadonlyMap<string, { readonly dtype: FloatDtype }>
    readonly savedTensors: ReadonlyMap<string, Pick<Tensor, 'dtype'>>
  }
}

/** Numbers in the buffer of an adapter. F64 becomes F32, the precision of all computations. */
interface StoredNumbers {
  readonly dtype: 'F32' | 'F16' | 'BF16'
  /** In bytes. */
  readonly offset: number
  readonly length: number
}

interface StoredLayer extends StoredNumbers {
  readonly key: string
  readonly name: string
  readonly shape: Shape
  readonly entries: Entries
}

interface StoredModule extends Pick<ReplacedModule, 'module' | 'inFeatures' | 'isResized'> {
  readonly key: string
  readonly weight: StoredNumbers
  readonly bias: StoredNumbers | undefined
}

interface PartLayout<Part> {
  readonly part: Part
  readonly layers: readonly StoredLayer[]
  readonly replacedModules: readonly StoredModule[]
  readonly replaces: ReadonlyMap<string, string>
}

/** What adapters with equal entries, targets, replaced layers and dtypes have in common. They have the same layout object. */
export interface Layout<Part> {
  readonly parts: readonly PartLayout<Part>[]
  /** Length of the buffer of each adapter. */
  readonly byteLength: number
}

/** The layouts of a model's adapters. It keeps a layout only as long as an adapter has it. */
export class Layouts<Part extends object> {
  readonly #layouts = new Map<string, WeakRef<Layout<Part>>>()
  readonly #ids = new WeakMap<object, number>()
  #lastId = 0

  /** Returns the layout of an adapter, and its numbers in the order of the buffer. */
  layoutOf({ shares }: Pick<MatchedShares<Part>, 'shares'>): Layout<Part> {
    const parts = Array.from(shares, ([part, share]) => ({ part, share }))
    const key = JSON.stringify(parts.map(({ part, share }) => [this.#id(part), this.#describe(share)]))
    const found = this.#layouts.get(key)?.deref()
    if (found) return found
    for (const [other, reference] of this.#layouts) if (!reference.deref()) this.#layouts.delete(other)
    const layout = newLayout(parts)
    this.#layouts.set(key, new WeakRef(layout))
    return layout
  }

  #id(object: object): number {
    const id = this.#ids.get(object) ?? ++this.#lastId
    this.#ids.set(object, id)
    return id
  }

  /** Everything that the layout contains, as plain values. */
  #describe(share: MatchedShare): unknown {
    return [
      Array.from(share.layers, ([key, { name, entries }]) => [
        key,
        name,
        dtypeOfLayer(share, name),
        this.#id(entries),
      ]),
      Array.from(share.replacedModules, ([key, { module, inFeatures, isResized, weight, bias }]) => [
        key,
        module,
        inFeatures,
        isResized,
        weight.length,
        dtypeOfTensor(share, module, 'weight'),
        bias?.length,
        dtypeOfTensor(share, module, 'bias'),
      ]),
    ]
  }
}

/** Memory of the objects around the buffer: the adapter, its name, its place in the cache, and what the allocator loses, as `resident-adapter.slow.test.ts` measures. */
const OBJECT_BYTES = 3072

export class ResidentAdapter<Part extends object> {
  readonly name: string
  readonly labels: ClassLabels | undefined
  /** The same object for all adapters that can share a graph and a batch, and have the same dtypes. */
  readonly layout: Layout<Part>
  /** The memory that the adapter takes, without its layout. */
  readonly bytes: number
  readonly #buffer: ArrayBuffer
  /** The adapter's factor on all coefficients (PEFT's `scaling`), for each part of the layout. */
  readonly #scalings: readonly number[]
  /** The decoded shares, as long as a run uses them. */
  #shares: WeakRef<ReadonlyMap<Part, ApplicableAdapter>> | undefined

  constructor(name: string, adapter: MatchedShares<Part>, layouts: Layouts<Part>) {
    this.name = name
    this.labels = adapter.labels
    this.layout = layouts.layoutOf(adapter)
    this.#buffer = new ArrayBuffer(this.layout.byteLength)
    const scalings: number[] = []
    for (const { part, layers, replacedModules } of this.layout.parts) {
      const share = adapter.shares.get(part) as MatchedShare
      scalings.push(scalingOf(share))
      for (const stored of layers) this.#write(stored, (share.layers.get(stored.key) as Layer).coefficients)
      for (const { key, weight, bias } of replacedModules) {
        const replaced = share.replacedModules.get(key) as ReplacedModule
        this.#write(weight, replaced.weight)
        if (bias) this.#write(bias, replaced.bias as Float32Array)
      }
    }
    this.#scalings = scalings
    const labelBytes = this.labels?.names.reduce((sum, label) => sum + 32 + 2 * label.length, 0) ?? 0
    this.bytes = this.layout.byteLength + OBJECT_BYTES + labelBytes
  }

  /**
   * The share of each part, with coefficients in float32: the same objects as long as anyone holds them. Numbers in float32 are not copied.
   */
  get shares(): ReadonlyMap<Part, ApplicableAdapter> {
    const held = this.#shares?.deref()
    if (held) return held
    const shares = new Map(
      this.layout.parts.map((part, i) => [part.part, this.#share(part, this.#scalings[i])]),
    )
    this.#shares = new WeakRef(shares)
    return shares
  }

  #share({ layers, replacedModules, replaces }: PartLayout<Part>, scaling: number): ApplicableAdapter {
    return {
      name: this.name,
      replaces,
      // The layers were checked when the adapter was matched.
      layers: new Map(
        layers.map((stored): [string, Layer] => {
          const { key, name, shape, entries } = stored
          return [key, { name, shape, entries, scaling, coefficients: this.#read(stored) }]
        }),
      ),
      replacedModules: new Map(
        replacedModules.map(
          ({ key, module, inFeatures, isResized, weight, bias }): [string, ReplacedModule] => [
            key,
            { module, inFeatures, isResized, weight: this.#read(weight), bias: bias && this.#read(bias) },
          ],
        ),
      ),
    }
  }

  #write({ dtype, offset, length }: StoredNumbers, values: Layer['coefficients']): void {
    if (dtype === 'F32') new Float32Array(this.#buffer, offset, length).set(values)
    else new Uint8Array(this.#buffer, offset, 2 * length).set(encodeFloats(values, dtype))
  }

  #read({ dtype, offset, length }: StoredNumbers): Float32Array {
    if (dtype === 'F32') return new Float32Array(this.#buffer, offset, length)
    return decodeFloats({ dtype, bytes: new Uint8Array(this.#buffer, offset, 2 * length) }) as Float32Array
  }
}

function newLayout<Part>(
  parts: readonly { readonly part: Part; readonly share: MatchedShare }[],
): Layout<Part> {
  let end = 0
  const place = (dtype: StoredNumbers['dtype'], length: number): StoredNumbers => {
    // Arrays of float32 begin at multiples of 4 bytes.
    const offset = dtype === 'F32' ? Math.ceil(end / 4) * 4 : end
    end = offset + length * (dtype === 'F32' ? 4 : 2)
    return { dtype, offset, length }
  }
  const placed = parts.map(({ part, share }): PartLayout<Part> => {
    const layers = Array.from(share.layers, ([key, { name, shape, entries }]) => ({
      key,
      name,
      shape,
      entries,
      ...place(dtypeOfLayer(share, name), entries.n),
    }))
    const replacedModules = Array.from(
      share.replacedModules,
      ([key, { module, inFeatures, isResized, weight, bias }]) => ({
        key,
        module,
        inFeatures,
        isResized,
        weight: place(dtypeOfTensor(share, module, 'weight'), weight.length),
        bias: bias && place(dtypeOfTensor(share, module, 'bias'), bias.length),
      }),
    )
    return { part, layers, replacedModules, replaces: new Map(share.replaces) }
  })
  return { parts: placed, byteLength: end }
}

function dtypeOfLayer({ source }: MatchedShare, module: string): StoredNumbers['dtype'] {
  return storedDtype(source.modules.get(module)?.dtype)
}

function dtypeOfTensor(
  { source }: MatchedShare,
  module: string,
  kind: 'weight' | 'bias',
): StoredNumbers['dtype'] {
  return storedDtype(source.savedTensors.get(savedTensor(module, kind))?.dtype)
}

function storedDtype(dtype: Tensor['dtype'] | undefined): StoredNumbers['dtype'] {
  return dtype === 'F16' || dtype === 'BF16' ? dtype : 'F32'
}

/** All layers of an adapter have the scaling of its configuration. */
function scalingOf({ layers }: MatchedShare): number {
  const [scaling = 1, ...others] = new Set(Array.from(layers.values(), ({ scaling }) => scaling))
  if (others.length > 0) throw new TypeError('the layers of an adapter have different scalings')
  return scaling
}

/**
 * Level 8: bad input is rejected with the documented code (`ErrorCode` of `core`), and changes nothing. A case has two codes if the
 * documentation of both fits.
 */
import {
  type AdapterBytes,
  type ErrorCode,
  explicitEntries,
  FourierFTError,
  type Layer,
  uniformEntries,
} from '@fourierft/core'
import type { AdaptedLinear, ApplyOptions } from '@fourierft/core/conformance'
import { readAgain } from '../core-round-trip.js'
import type { Level, LevelContext } from '../level.js'
import { withLinear } from '../linear-cases.js'
import { malformedFiles } from '../malformed-files.js'
import { differingBits } from '../measure.js'
import { layerOf } from '../reference-oracle.js'
import { seededValues } from '../seeded-values.js'

const SHAPE = [12, 20] as const
const [D1, D2] = SHAPE
const TOKENS = 3
const N = 15

export const badInputLevel: Level = {
  level: 8,
  title: 'bad input',
  async run(context) {
    await checkBadLayers(context)
    await checkBadCalls(context)
    await checkBadStates(context)
    await checkBadEntries(context)
    await checkBadFiles(context)
  },
}

const layer = () => layerOf({ shape: SHAPE, n: N, seed: 777, coefficientsSeed: 8100, scaling: 90 })
const weight = () => seededValues(8101, D1 * D2)
const bias = () => seededValues(8102, D1)
const x = () => seededValues(8103, TOKENS * D2)
const gradY = () => seededValues(8104, TOKENS * D1)

/** Generates `[fault, layer, accepted codes]`. */
function* malformedLayers(): Generator<[string, Layer, ErrorCode[]]> {
  const good = layer()
  yield ['too few coefficients', { ...good, coefficients: seededValues(1, N - 1) }, ['SHAPE_MISMATCH']]
  yield ['too many coefficients', { ...good, coefficients: seededValues(1, N + 1) }, ['SHAPE_MISMATCH']]
  yield ['a coefficient that is NaN', { ...good, coefficients: valuesWith(N, Number.NaN) }, ['NOT_FINITE']]
  yield [
    'a coefficient that is infinite',
    { ...good, coefficients: valuesWith(N, Number.NEGATIVE_INFINITY) },
    ['NOT_FINITE'],
  ]
  yield ['a scaling that is NaN', { ...good, scaling: Number.NaN }, ['NOT_FINITE', 'INVALID_OPTION']]
  yield ['entries of another shape', { ...good, shape: [D2, D1] }, ['SHAPE_MISMATCH']]
}

function valuesWith(length: number, value: number): Float32Array {
  const numbers = seededValues(1, length)
  numbers[length >> 1] = value
  return numbers
}

async function checkBadLayers({ backend, check }: LevelContext): Promise<void> {
  for (const [fault, malformed, codes] of malformedLayers()) {
    await check(`delta: ${fault}`, 0, () => expectRejection(codes, () => backend.delta(malformed)))
    await check(`linear: ${fault}`, 0, () => expectLinearRejection(weight(), bias(), [malformed], codes))
  }
  const other = layerOf({ shape: [D1, D2 + 1], n: N, seed: 777, coefficientsSeed: 1, scaling: 90 })
  const cases: readonly [string, Float32Array, Float32Array | null, Layer[]][] = [
    ['a weight that is too short', weight().subarray(1), bias(), [layer()]],
    ['a weight that is too long', seededValues(1, D1 * D2 + 1), bias(), [layer()]],
    ['a bias that is too short', weight(), bias().subarray(1), [layer()]],
    ['a bias of the input size', weight(), seededValues(1, D2), [layer()]],
    ['a layer of another shape', weight(), bias(), [other]],
    ['a second layer of another shape', weight(), bias(), [layer(), other]],
  ]
  for (const [fault, w, b, layers] of cases) {
    await check(`linear: ${fault}`, 0, () => expectLinearRejection(w, b, layers, ['SHAPE_MISMATCH']))
  }

  async function expectLinearRejection(
    w: Float32Array,
    b: Float32Array | null,
    layers: Layer[],
    codes: ErrorCode[],
  ) {
    const before = await backend.resources?.()
    const error = await expectRejection(codes, async () => (await backend.linear(w, b, layers)).dispose())
    return error + Math.abs(((await backend.resources?.()) ?? 0) - (before ?? 0))
  }
}

async function checkBadCalls({ backend, check }: LevelContext): Promise<void> {
  const rows = (...indices: number[]): ApplyOptions => ({ rows: Int32Array.from(indices) })
  const unknownStrategy = { strategy: 'telepathy' as NonNullable<ApplyOptions['strategy']> }
  type Call = (linear: AdaptedLinear) => Promise<unknown>
  const calls: readonly [string, Call, ErrorCode[]][] = [
    ['forward: x is not a whole number of rows', (l) => l.forward(x().subarray(1)), ['SHAPE_MISMATCH']],
    [
      'backward: x is not a whole number of rows',
      (l) => l.backward(x().subarray(1), gradY()),
      ['SHAPE_MISMATCH'],
    ],
    ['backward: gradY has too few rows', (l) => l.backward(x(), gradY().subarray(D1)), ['SHAPE_MISMATCH']],
    ['backward: gradY has the input size', (l) => l.backward(x(), x()), ['SHAPE_MISMATCH']],
    ['forward: rows for too few tokens', (l) => l.forward(x(), rows(0, 0)), ['SHAPE_MISMATCH']],
    [
      'forward: rows with an index that no layer has',
      (l) => l.forward(x(), rows(0, 1, 0)),
      ['INVALID_OPTION', 'ADAPTER_NOT_FOUND'],
    ],
    [
      'forward: rows below −1',
      (l) => l.forward(x(), rows(0, -2, 0)),
      ['INVALID_OPTION', 'ADAPTER_NOT_FOUND'],
    ],
    [
      'backward: rows with an index that no layer has',
      (l) => l.backward(x(), gradY(), rows(0, 7, 0)),
      ['INVALID_OPTION', 'ADAPTER_NOT_FOUND'],
    ],
    [
      'forward: an unknown strategy',
      (l) => l.forward(x(), unknownStrategy),
      ['UNSUPPORTED', 'INVALID_OPTION'],
    ],
    [
      'backward: an unknown strategy',
      (l) => l.backward(x(), gradY(), unknownStrategy),
      ['UNSUPPORTED', 'INVALID_OPTION'],
    ],
    ['setCoefficients: no arrays', (l) => l.setCoefficients([]), ['SHAPE_MISMATCH']],
    [
      'setCoefficients: an array too many',
      (l) => l.setCoefficients([seededValues(1, N), seededValues(2, N)]),
      ['SHAPE_MISMATCH'],
    ],
    ['setCoefficients: too short', (l) => l.setCoefficients([seededValues(1, N - 1)]), ['SHAPE_MISMATCH']],
    ['setCoefficients: NaN', (l) => l.setCoefficients([valuesWith(N, Number.NaN)]), ['NOT_FINITE']],
    [
      'setCoefficients: infinite',
      (l) => l.setCoefficients([valuesWith(N, Number.POSITIVE_INFINITY)]),
      ['NOT_FINITE'],
    ],
  ]
  for (const strategy of ['dense', 'factored', 'spectral'] as const) {
    if (backend.strategies.includes(strategy)) continue
    await check(`forward: the strategy ${strategy}, which the backend does not offer`, 0, () =>
      expectUnchanged((l) => l.forward(x(), { strategy }), ['UNSUPPORTED', 'INVALID_OPTION']),
    )
  }
  for (const [name, call, codes] of calls) await check(name, 0, () => expectUnchanged(call, codes))

  // If the second of two layers is malformed, neither may change.
  await check('setCoefficients: the second of two is NaN', 0, () =>
    withLinear(backend, { weight: weight(), bias: bias(), layers: [layer(), layer()] }, async (linear) => {
      const before = (await linear.forward(x())).slice()
      const call = () => linear.setCoefficients([seededValues(1, N), valuesWith(N, Number.NaN)])
      return (await expectRejection(['NOT_FINITE'], call)) + differingBits(await linear.forward(x()), before)
    }),
  )

  function expectUnchanged(call: Call, codes: ErrorCode[]): Promise<number> {
    return withLinear(backend, { weight: weight(), bias: bias(), layers: [layer()] }, async (linear) => {
      const before = { y: (await linear.forward(x())).slice(), weight: (await linear.weight()).slice() }
      const error = await expectRejection(codes, () => call(linear))
      const changed =
        differingBits(await linear.forward(x()), before.y) +
        differingBits(await linear.weight(), before.weight)
      if (changed > 0) throw new Error(`${changed} numbers of the output or the weight changed`)
      return error
    })
  }
}

async function checkBadStates({ backend, check, skip }: LevelContext): Promise<void> {
  const testCase = { weight: weight(), bias: bias(), layers: [layer()] }
  if (backend.strategies.includes('merge')) {
    await check('merge twice', 0, () =>
      withLinear(backend, testCase, async (linear) => {
        await linear.merge()
        const before = (await linear.weight()).slice()
        const error = await expectRejection(['INVALID_STATE'], () => linear.merge())
        return error + differingBits(await linear.weight(), before)
      }),
    )
    await check('unmerge without a merge', 0, () =>
      withLinear(backend, testCase, async (linear) => {
        const before = (await linear.weight()).slice()
        const error = await expectRejection(['INVALID_STATE'], () => linear.unmerge())
        return error + differingBits(await linear.weight(), before)
      }),
    )
  } else {
    skip('merge twice', 'the backend does not offer the strategy merge')
    await check('merge, which the backend does not offer', 0, () =>
      withLinear(backend, testCase, (linear) => expectRejection(['UNSUPPORTED'], () => linear.merge())),
    )
  }
  const uses: readonly [string, (linear: AdaptedLinear) => Promise<unknown>][] = [
    ['forward', (linear) => linear.forward(x())],
    ['backward', (linear) => linear.backward(x(), gradY())],
    ['setCoefficients', (linear) => linear.setCoefficients([seededValues(1, N)])],
    ['disable', (linear) => linear.disable()],
    ['enable', (linear) => linear.enable()],
    ['merge', (linear) => linear.merge()],
    ['unmerge', (linear) => linear.unmerge()],
    ['weight', (linear) => linear.weight()],
  ]
  for (const [name, use] of uses) {
    const isMissing = name.endsWith('merge') && !backend.strategies.includes('merge')
    await check(`${name} after dispose`, 0, async () => {
      const linear = await backend.linear(testCase.weight, testCase.bias, testCase.layers)
      await linear.dispose()
      return expectRejection(isMissing ? ['INVALID_STATE', 'UNSUPPORTED'] : ['INVALID_STATE'], () =>
        use(linear),
      )
    })
  }
}

async function checkBadEntries({ check }: LevelContext): Promise<void> {
  const shape = [4, 6] as const
  const cases: readonly [string, () => unknown, ErrorCode[]][] = [
    ['a row out of range', () => explicitEntries({ shape, rows: [4], columns: [0] }), ['ENTRY_OUT_OF_RANGE']],
    [
      'a column out of range',
      () => explicitEntries({ shape, rows: [0], columns: [6] }),
      ['ENTRY_OUT_OF_RANGE'],
    ],
    ['a negative row', () => explicitEntries({ shape, rows: [-1], columns: [0] }), ['ENTRY_OUT_OF_RANGE']],
    [
      'a row that is not an integer',
      () => explicitEntries({ shape, rows: [0.5], columns: [0] }),
      ['ENTRY_OUT_OF_RANGE'],
    ],
    [
      'a duplicate entry',
      () => explicitEntries({ shape, rows: [1, 2, 1], columns: [3, 3, 3] }),
      ['DUPLICATE_ENTRY'],
    ],
    [
      'more entries than the spectrum has',
      () => uniformEntries({ shape, n: 25, seed: 1 }),
      ['INVALID_ENTRY_COUNT'],
    ],
    ['no entries', () => uniformEntries({ shape, n: 0, seed: 1 }), ['INVALID_ENTRY_COUNT']],
    ['a seed that is not an integer', () => uniformEntries({ shape, n: 1, seed: 0.5 }), ['INVALID_OPTION']],
    ['a shape with a 0', () => uniformEntries({ shape: [0, 6], n: 1, seed: 1 }), ['INVALID_OPTION']],
  ]
  for (const [fault, make, codes] of cases) {
    await check(`entries: ${fault}`, 0, () => expectRejection(codes, async () => make()))
  }
}

async function checkBadFiles({ backend, vectors, check }: LevelContext): Promise<void> {
  const read = async (files: AdapterBytes) => (backend.roundTrip ?? readAgain)(files)
  const reader = backend.roundTrip === undefined ? "core's reader" : 'roundTrip'
  const good = vectors.adapters.find(({ name }) => name === 'linear-float32')?.files
  if (good === undefined) throw new Error('the vectors have no adapter linear-float32')
  for (const { name, files, codes } of malformedFiles(good)) {
    await check(`${reader}: ${name}`, 0, () => expectRejection(codes, () => read(files), FILE_NAME))
  }
}

/** Messages must name the file, because users can have hundreds of adapters. */
const FILE_NAME = /adapter_(config\.json|model\.safetensors)/

/** Returns 0 if `call` rejects with one of the codes and a matching message; otherwise throws an error that names what it received. */
async function expectRejection(
  codes: readonly ErrorCode[],
  call: () => Promise<unknown>,
  message = /\S/,
): Promise<number> {
  let thrown: unknown
  try {
    await call()
  } catch (error) {
    thrown = error
  }
  if (thrown === undefined) throw new Error(`expected ${codes.join(' or ')}; the call succeeded`)
  if (FourierFTError.isInstance(thrown) && codes.includes(thrown.code)) {
    if (message.test(thrown.message)) return 0
    throw new Error(`${thrown.code}: expected a message with ${message}; received ${thrown.message}`)
  }
  const received = FourierFTError.isInstance(thrown) ? `${thrown.code}: ${thrown.message}` : String(thrown)
  throw new Error(`expected ${codes.join(' or ')}; received ${received}`)
}

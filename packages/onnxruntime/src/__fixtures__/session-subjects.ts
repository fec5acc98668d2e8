/** Sessions of ONNX Runtime as subjects of the tests of the adapter life cycle. The model has two layers. */
import type { AdapterSubject, AdapterSubjects } from '@fourierft/conformance'
import { meanSquaredError } from '@fourierft/onnx'
import type { AdaptedSession } from '../adapted-session.js'
import { createSession } from '../create-session.js'
import type { Ort } from '../ort.js'
import { smallModel } from '../trainer/__fixtures__/small-model.js'
import type { TrainableSession } from '../trainer/trainable.js'
import { Trainer, type TrainingBatch } from '../trainer/trainer.js'
import { SHAPES } from './two-layers.js'

/** The abilities that sessions do not have, for the option `lacks` of `testAdapters`. */
export const KNOWN_GAPS = ['writeWeights'] as const

export function sessionSubjects(ort: Ort, native: boolean): AdapterSubjects {
  return {
    layer: { module: 'block.first', shape: SHAPES['block.first'] },
    head: { module: 'block.second', shape: SHAPES['block.second'], hasBias: false },
    async create() {
      const session = await createSession(smallModel(), { ort, native })
      const x = Float32Array.from({ length: 2 * 3 * 12 }, (_, i) => Math.sin(0.7 * i))
      const feeds = () => ({ x: new ort.Tensor('float32', x.slice(), [2, 3, 12]) })
      const run = async (options = {}) => {
        const { y } = await session.run(feeds(), options)
        return y?.data as Float32Array
      }
      const batch = () => ({ feeds: feeds(), labels: new ort.Tensor('float32', new Float32Array(48), [2, 3, 8]) })
      return {
        adapters: session,
        call: () => run(),
        callWithRows: (adapters) => run({ adapters }),
        async callDuring(action) {
          const output = run()
          await action()
          return output
        },
        train: trainingOf(session, batch),
        end: () => session.release(),
      }
    },
  }
}

/** Trains the active adapter. `after` runs as the last part of a step, so the adapter is still being trained. */
function trainingOf(
  session: AdaptedSession,
  batch: () => TrainingBatch,
): NonNullable<AdapterSubject['train']> {
  let afterStep: () => unknown
  const { trainAdapter, ...others } = session.trainable
  const trainable: TrainableSession = {
    ...others,
    trainAdapter: (name, work) =>
      trainAdapter(name, async () => {
        const report = await work()
        await afterStep()
        return report
      }),
  }
  const trainers = new Map<string, Promise<Trainer>>()
  return async (steps, after) => {
    const [adapter = ''] = session.activeAdapters
    const created = trainers.get(adapter) ?? Trainer.create(trainable, { loss: meanSquaredError('y') })
    trainers.set(adapter, created)
    const trainer = await created
    for (let step = 0; step < steps; step++) {
      afterStep = () => after(step)
      await trainer.step(batch())
    }
  }
}

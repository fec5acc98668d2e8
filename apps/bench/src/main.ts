/** The command `npm run bench -- [runtimes…]`. Each runtime has a file with a function that measures and prints. */
import { FourierFTError } from '@fourierft/core'
import { Command, Option } from 'commander'
import { benchmarkCore } from './core.js'
import { benchmarkFineTuning } from './fine-tuning.js'
import { benchmarkIdle } from './idle.js'
import { describeMachine } from './machine.js'
import type { RunLength } from './measure.js'
import { benchmarkNative } from './native.js'
import { benchmarkOnnxRuntime } from './onnxruntime.js'
import { benchmarkServing } from './serving.js'
import { benchmarkTfjs } from './tfjs.js'
import { benchmarkDecoder, benchmarkQuantised, benchmarkTraining, benchmarkTwelveLayers } from './training.js'
import { benchmarkBranch } from './training-branch.js'
import { benchmarkWasmTraining } from './training-wasm.js'
import { benchmarkTransformers } from './transformers.js'

const RUNTIMES: Readonly<Record<string, (runLength: RunLength) => Promise<void>>> = {
  core: benchmarkCore,
  'fine-tuning': benchmarkFineTuning,
  idle: benchmarkIdle,
  native: benchmarkNative,
  onnxruntime: benchmarkOnnxRuntime,
  serving: benchmarkServing,
  tfjs: (runLength) => benchmarkTfjs(runLength, 'wasm'),
  'tfjs-node': (runLength) => benchmarkTfjs(runLength, 'node'),
  training: benchmarkTraining,
  'training-12-layers': benchmarkTwelveLayers,
  'training-decoder': benchmarkDecoder,
  'training-q4': benchmarkQuantised,
  'training-wasm': benchmarkWasmTraining,
  'training-branch': benchmarkBranch,
  transformers: benchmarkTransformers,
}

const names = Object.keys(RUNTIMES)
/** These run only by name: they take many minutes. */
const isLong = (name: string) => ['fine-tuning', 'serving'].includes(name) || name.startsWith('training-')

await new Command('bench')
  .description('Measures FourierFT and alternatives in turn, and prints ratios: medians [quartiles]')
  .argument(
    '[runtimes...]',
    `any of: ${names.join(', ')}`,
    names.filter((name) => !isLong(name)),
  )
  .addOption(new Option('--quick', 'smaller sizes and fewer rounds, only to test that everything runs'))
  .action(async (runtimes: readonly string[], { quick = false }: { quick?: boolean }) => {
    const unknown = runtimes.find((name) => !Object.hasOwn(RUNTIMES, name))
    if (unknown !== undefined) {
      console.error(`bench: expected runtimes from ${names.join(', ')}; received ${unknown}`)
      process.exitCode = 2
      return
    }
    console.log(describeMachine())
    for (const name of runtimes) {
      try {
        await RUNTIMES[name](quick ? 'quick' : 'full')
      } catch (error) {
        if (!(FourierFTError.isInstance(error) && error.code === 'UNSUPPORTED')) throw error
        console.log(`\n${name}: skipped: ${error.message}`)
      }
    }
  })
  .parseAsync()

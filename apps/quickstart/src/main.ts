/**
 * The command line of the demo: `node dist/main.js [--out folder] [--quick] [--backend node|wasm]`. Exits with 1 if implementations or runtimes
 * disagree.
 */
import { resolve } from 'node:path'
import { log } from '@clack/prompts'
import { Command, Option } from 'commander'
import { demo } from './demo.js'
import { quickDemo, wholeDemo } from './settings.js'
import { type Backend, backends } from './tensorflow.js'

const program = new Command('quickstart')
  .description(
    'Fine-tunes a vision transformer with FourierFT in TensorFlow.js, compares the method with others, and runs the adapter in every runtime.',
  )
  .option('--out <folder>', 'folder for the adapters and the picture', 'fourierft-demo')
  .option('--quick', 'one seed and a few steps: enough to test the program, too few to compare the methods')
  .addOption(
    new Option(
      '--backend <name>',
      'the TensorFlow.js backend (default: node if its binding loads, otherwise wasm)',
    ).choices(backends),
  )
  .action(async ({ out, quick, backend }: { out: string; quick?: true; backend?: Backend }) => {
    const agrees = await demo(resolve(out), quick ? quickDemo : wholeDemo, backend)
    process.exitCode = agrees ? 0 : 1
  })

try {
  await program.parseAsync()
} catch (error) {
  log.error(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}

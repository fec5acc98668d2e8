/**
 * The demo: adapts a small vision transformer to rotated digits with FourierFT in TensorFlow.js, checks the adapter with a second
 * implementation that does not use TensorFlow.js, compares FourierFT with LoRA, full fine-tuning and the frozen model, and runs the adapter in
 * the other runtimes.
 */
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { intro, log, outro } from '@clack/prompts'
import { CONFIG_FILE } from '@fourierft/core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { Checkpoint } from './checkpoint.js'
import { baseFolder, readCheckpoint } from './checkpoint-files.js'
import { compareImplementations, type ImplementationComparison } from './compare-implementations.js'
import { type DigitSet, firstDigits } from './digits.js'
import { type Run, runMethod } from './experiment.js'
import { countSteps, predict } from './fine-tune.js'
import { formatBytes } from './format-bytes.js'
import { loadDigits } from './load-digits.js'
import { lossCurves } from './loss-curves.js'
import { type AttachedMethod, fourierft, type Method, methods } from './methods.js'
import { loadWeights } from './model-weights.js'
import { writeOnnxFolder } from './onnx-files.js'
import { startProgress } from './progress.js'
import { resultTable } from './result-table.js'
import { rotateDigits } from './rotated-digits.js'
import { compareRuntimes, type MissingRuntime, type RuntimeRun } from './runtime-comparison.js'
import { runtimeTable } from './runtime-table.js'
import { runIn, runtimes } from './runtimes.js'
import { type Score, score } from './score.js'
import { type DemoSize, degrees, training } from './settings.js'
import { frozenSummary, type Summary, summarize } from './summary.js'
import { type Backend, startTensorFlow } from './tensorflow.js'
import { visionTransformer } from './vision-transformer.js'

/** The parts that all runs share. */
interface Setup {
  /** The name of the TensorFlow.js backend. */
  readonly tensorflow: string
  readonly model: LayersModel
  readonly checkpoint: Checkpoint
  /** Rotated digits for training, and others for testing. */
  readonly adaptation: DigitSet
  readonly test: DigitSet
  /** Score of the base model without an adapter on the rotated test digits. */
  readonly frozen: Score
  readonly epochs: number
  readonly out: string
}

/**
 * @param backend the TensorFlow.js backend; default: the fastest one that loads
 * @returns whether all implementations and runtimes agree about the adapter
 */
export async function demo(out: string, size: DemoSize, backend?: Backend): Promise<boolean> {
  intro('FourierFT: a vision transformer learns to classify rotated digits')
  await mkdir(out, { recursive: true })
  const setup = await prepare(out, size, backend)
  const [firstSeed = 1, ...otherSeeds] = size.seeds

  const { run, agrees, ...results } = await adaptAndVerify(setup, firstSeed)
  const runs = [run]
  log.step('Training the other methods and seeds')
  for (const method of methods) {
    for (const seed of method === fourierft ? otherSeeds : size.seeds) {
      const attached = method.attach(setup.model, seed)
      runs.push(await runWithProgress(setup, method, attached, seed))
      attached.detach()
    }
  }
  const picture = await report(setup, runs, size.seeds.length)
  const adapter = folderOf(setup, fourierft, firstSeed)
  const runtimesAgree = await runEverywhere(setup, { ...results, adapter, bytes: run.bytes })
  outro(`Loss curves: ${relative(process.cwd(), picture)}`)
  return agrees && runtimesAgree
}

async function prepare(
  out: string,
  { epochs, ...counts }: DemoSize,
  backend: Backend | undefined,
): Promise<Setup> {
  const tensorflow = await startTensorFlow(backend)
  log.info(`Computes with ${tensorflow}`)
  const digits = await loadDigits()
  const upright = firstDigits(digits.test, counts.test)
  const test = rotateDigits(upright, degrees)
  const adaptation = rotateDigits(firstDigits(digits.adaptation, counts.adaptation), degrees)
  const checkpoint = await readCheckpoint(baseFolder)
  const model = visionTransformer(checkpoint.config)
  loadWeights(model, checkpoint)
  const frozen = score(predict(model, test), test.labels)
  log.info(
    `Base model: ${model.countParams().toLocaleString('en')} weights, trained on upright digits only. It classifies ` +
      `${percent(score(predict(model, upright), upright.labels))} of ${test.count} upright test digits correctly, ` +
      `and ${percent(frozen)} of the same digits rotated by ${degrees}°.`,
  )
  return { tensorflow, model, checkpoint, adaptation, test, frozen, epochs, out }
}

interface Results {
  /** Results of the second implementation, based on core, for the test digits. */
  readonly core: RuntimeRun
  /** Results of the model in which the adapter was trained. */
  readonly trained: RuntimeRun
}

/** Trains a FourierFT adapter, saves it, and checks it with the second implementation. */
async function adaptAndVerify(setup: Setup, seed: number): Promise<Results & { run: Run; agrees: boolean }> {
  const { model, checkpoint, test } = setup
  log.step(`Fine-tuning with FourierFT in TensorFlow.js, on ${setup.adaptation.count} rotated digits`)
  const attached = fourierft.attach(model, seed)
  const run = await runWithProgress(setup, fourierft, attached, seed)
  const folder = folderOf(setup, fourierft, seed)
  const { size: configBytes } = await stat(join(folder, CONFIG_FILE))
  log.success(
    `Adapter: ${relative(process.cwd(), folder)}, ${formatBytes(run.bytes)} for ${run.parameters.toLocaleString('en')} ` +
      `numbers and ${formatBytes(configBytes)} of configuration, in PEFT's layout`,
  )
  log.step('Checking the adapter with the implementation on plain typed arrays, without TensorFlow.js')
  const begin = performance.now()
  const logits = predict(model, test)
  const milliseconds = (performance.now() - begin) / test.count
  const comparison = await compareImplementations(attached.adapters, folder, checkpoint, test, logits)
  attached.detach()
  reportComparison(comparison, test.count)
  return {
    run,
    agrees: comparison.agrees,
    core: { ...comparison, runtime: '@fourierft/core, float64' },
    trained: { runtime: setup.tensorflow, logits, milliseconds },
  }
}

/** Exports the base model to ONNX and runs the trained adapter in the other runtimes. @returns whether all of them agree */
async function runEverywhere(
  { checkpoint, test, out }: Setup,
  { core, trained, adapter, bytes }: Results & { readonly adapter: string; readonly bytes: number },
): Promise<boolean> {
  const model = join(out, 'digits-vit')
  const { size } = await stat(await writeOnnxFolder(model, checkpoint))
  log.step(
    `The adapter of ${relative(process.cwd(), adapter)}, trained once, in every runtime\n` +
      `Base model in ONNX: ${relative(process.cwd(), model)}, ${formatBytes(size)}, as transformers.js loads it`,
  )
  const others: (RuntimeRun | MissingRuntime)[] = []
  for (const runtime of runtimes) others.push(await runIn(runtime, { model, adapter }, test))
  const comparisons = compareRuntimes({ core, trained, others, digits: test, config: checkpoint.config })
  log.message(runtimeTable(comparisons, test.count, bytes))
  const wrong = comparisons.flatMap((row) => ('reason' in row || row.agrees ? [] : [row.runtime]))
  if (wrong.length > 0) log.error(`These disagree: ${wrong.join('; ')}`)
  return wrong.length === 0
}

function reportComparison(
  { differentLabels, logitDifference, logitLimit, deltas, agrees, ...result }: ImplementationComparison,
  count: number,
): void {
  const lines = [
    `Labels: ${count - differentLabels} of ${count} test digits the same, ${percent(result)} right`,
    `Logits: largest difference ${logitDifference.toExponential(1)}, allowed ${logitLimit.toExponential(1)}`,
    ...deltas.map(
      ({ module, difference, limit }) =>
        `ΔW of ${module}: largest difference ${difference.toExponential(1)}, allowed ${limit.toExponential(1)}`,
    ),
  ]
  if (agrees) log.success(lines.join('\n'))
  else log.error(`The two implementations disagree.\n${lines.join('\n')}`)
}

async function runWithProgress(
  setup: Setup,
  method: Method,
  attached: AttachedMethod,
  seed: number,
): Promise<Run> {
  const { model, frozen, adaptation, test, epochs } = setup
  const options = { ...training, adaptation, test, epochs, seed, folder: folderOf(setup, method, seed) }
  const bar = startProgress(
    `${method.name}, seed ${seed}`,
    countSteps({ ...training, digits: adaptation, epochs }),
  )
  const run = await runMethod(model, method, attached, frozen, {
    ...options,
    onStep: (step, _, { loss, accuracy }) =>
      bar.update(step, `loss ${loss.toFixed(2)}, ${percent({ accuracy })} right`),
  })
  const last = run.curve.at(-1) ?? { ...frozen, step: 0 }
  bar.finish(`test loss ${last.loss.toFixed(3)}, ${percent(last)} right`)
  return run
}

/** Prints the table and writes the picture. @returns the path of the picture */
async function report(
  { frozen, out, test, adaptation }: Setup,
  runs: readonly Run[],
  seedCount: number,
): Promise<string> {
  const summaries = methods.flatMap(({ name }) => summarize(runs.filter((run) => run.method === name)) ?? [])
  const steps = summaries[0]?.curve.map(({ step }) => step) ?? []
  const all: Summary[] = [...summaries, frozenSummary(frozen, steps)]
  const picture = join(out, 'loss-curves.svg')
  const seeds = seedCount === 1 ? 'one seed' : `mean and standard deviation of ${seedCount} seeds`
  const svg = await lossCurves(all, {
    title: `Learning to classify digits that are rotated by ${degrees}°`,
    subtitle: `${adaptation.count} training digits, ${test.count} test digits; ${seeds}`,
    xTitle: `training step (${training.batchSize} digits)`,
    yTitle: 'test loss',
  })
  await writeFile(picture, svg)
  log.message(resultTable(all))
  return picture
}

const folderOf = ({ out }: Setup, { folder }: Method, seed: number): string =>
  join(out, folder, `seed-${seed}`)

const percent = ({ accuracy }: Pick<Score, 'accuracy'>): string => `${(100 * accuracy).toFixed(1)} %`

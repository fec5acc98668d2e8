/**
 * The demo: adapts a small vision transformer to turned digits with FourierFT in TensorFlow.js, checks the adapter with a second
 * implementation without TensorFlow.js, compares the method with LoRA, full fine-tuning and the frozen model, and runs the adapter in the
 * other runtimes.
 */
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { intro, log, outro } from '@clack/prompts'
import { CONFIG_FILE } from '@fourierft/core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { Checkpoint } from './checkpoint.js'
import { baseFolder, readCheckpoint } from './checkpoint-files.js'
import { type DigitSet, firstDigits } from './digits.js'
import { type Run, runMethod } from './experiment.js'
import { countSteps, predict } from './fine-tune.js'
import { formatBytes } from './format-bytes.js'
import { loadDigits } from './load-digits.js'
import { lossCurves } from './loss-curves.js'
import { type Adaptation, fourierft, type Method, methods } from './methods.js'
import { loadWeights } from './model-weights.js'
import { writeOnnxFolder } from './onnx-files.js'
import { startProgress } from './progress.js'
import { resultTable } from './result-table.js'
import { compareRuntimes, type MissingRuntime, type RuntimeRun } from './runtime-comparison.js'
import { runtimeTable } from './runtime-table.js'
import { runIn, runtimes } from './runtimes.js'
import { type Score, score } from './score.js'
import { type SecondOpinion, secondOpinion } from './second-opinion.js'
import { type DemoSize, degrees, training } from './settings.js'
import { frozenSummary, type Summary, summarize } from './summary.js'
import { type Backend, startTensorFlow } from './tensorflow.js'
import { turned } from './turned-digits.js'
import { visionTransformer } from './vision-transformer.js'

/** The common start of all runs. */
interface Stage {
  /** The name of the TensorFlow.js backend. */
  readonly tensorflow: string
  readonly model: LayersModel
  readonly checkpoint: Checkpoint
  /** Turned digits for training, and others for testing. */
  readonly adaptation: DigitSet
  readonly test: DigitSet
  /** Score of the base model without an adapter, on the turned test digits. */
  readonly frozen: Score
  readonly epochs: number
  readonly out: string
}

/**
 * @param backend the TensorFlow.js backend; default: the fastest one that loads
 * @returns whether all implementations and runtimes agree about the adapter
 */
export async function demo(out: string, size: DemoSize, backend?: Backend): Promise<boolean> {
  intro('FourierFT: a vision transformer learns to read turned digits')
  await mkdir(out, { recursive: true })
  const stage = await prepare(out, size, backend)
  const [firstSeed = 1, ...otherSeeds] = size.seeds

  const { run, agrees, ...results } = await adaptAndVerify(stage, firstSeed)
  const runs = [run]
  log.step('The same with the other methods and seeds')
  for (const method of methods) {
    for (const seed of method === fourierft ? otherSeeds : size.seeds) {
      const attached = method.attach(stage.model, seed)
      runs.push(await runWithProgress(stage, method, attached, seed))
      attached.detach()
    }
  }
  const picture = await report(stage, runs, size.seeds.length)
  const adapter = folderOf(stage, fourierft, firstSeed)
  const runtimesAgree = await runEverywhere(stage, { ...results, adapter, bytes: run.bytes })
  outro(`Loss curves: ${relative(process.cwd(), picture)}`)
  return agrees && runtimesAgree
}

async function prepare(
  out: string,
  { epochs, ...counts }: DemoSize,
  backend: Backend | undefined,
): Promise<Stage> {
  const tensorflow = await startTensorFlow(backend)
  log.info(`Computes with ${tensorflow}`)
  const digits = await loadDigits()
  const upright = firstDigits(digits.test, counts.test)
  const test = turned(upright, degrees)
  const adaptation = turned(firstDigits(digits.adaptation, counts.adaptation), degrees)
  const checkpoint = await readCheckpoint(baseFolder)
  const model = visionTransformer(checkpoint.config)
  loadWeights(model, checkpoint)
  const frozen = score(predict(model, test), test.labels)
  log.info(
    `Base model: ${model.countParams().toLocaleString('en')} weights, trained on upright digits only. It reads ` +
      `${percent(score(predict(model, upright), upright.labels))} of ${test.count} upright test digits, ` +
      `and ${percent(frozen)} of the same digits turned by ${degrees}°.`,
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
async function adaptAndVerify(stage: Stage, seed: number): Promise<Results & { run: Run; agrees: boolean }> {
  const { model, checkpoint, test } = stage
  log.step(`Fine-tuning with FourierFT in TensorFlow.js, on ${stage.adaptation.count} turned digits`)
  const attached = fourierft.attach(model, seed)
  const run = await runWithProgress(stage, fourierft, attached, seed)
  const folder = folderOf(stage, fourierft, seed)
  const { size: configBytes } = await stat(join(folder, CONFIG_FILE))
  log.success(
    `Adapter: ${relative(process.cwd(), folder)}, ${formatBytes(run.bytes)} for ${run.parameters.toLocaleString('en')} ` +
      `numbers and ${formatBytes(configBytes)} of configuration, in PEFT's layout`,
  )
  log.step('The same adapter on plain typed arrays, without TensorFlow.js')
  const begin = performance.now()
  const logits = predict(model, test)
  const milliseconds = (performance.now() - begin) / test.count
  const opinion = await secondOpinion(attached.adapters, folder, checkpoint, test, logits)
  attached.detach()
  reportOpinion(opinion, test.count)
  return {
    run,
    agrees: opinion.agrees,
    core: { ...opinion, runtime: '@fourierft/core, float64' },
    trained: { runtime: stage.tensorflow, logits, milliseconds },
  }
}

/** Exports the base model to ONNX and runs the trained adapter in the other runtimes. @returns whether all of them agree */
async function runEverywhere(
  { checkpoint, test, out }: Stage,
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

function reportOpinion(
  { differentLabels, logitDifference, logitLimit, deltas, agrees, ...second }: SecondOpinion,
  count: number,
): void {
  const lines = [
    `Labels: ${count - differentLabels} of ${count} test digits the same, ${percent(second)} right`,
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
  stage: Stage,
  method: Method,
  attached: Adaptation,
  seed: number,
): Promise<Run> {
  const { model, frozen, adaptation, test, epochs } = stage
  const options = { ...training, adaptation, test, epochs, seed, folder: folderOf(stage, method, seed) }
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
  { frozen, out, test, adaptation }: Stage,
  runs: readonly Run[],
  seedCount: number,
): Promise<string> {
  const summaries = methods.flatMap(({ name }) => summarize(runs.filter((run) => run.method === name)) ?? [])
  const steps = summaries[0]?.curve.map(({ step }) => step) ?? []
  const all: Summary[] = [...summaries, frozenSummary(frozen, steps)]
  const picture = join(out, 'loss-curves.svg')
  const seeds = seedCount === 1 ? 'one seed' : `mean and standard deviation of ${seedCount} seeds`
  const svg = await lossCurves(all, {
    title: `Learning to read digits that are turned by ${degrees}°`,
    subtitle: `${adaptation.count} digits to learn from, ${test.count} others to test with; ${seeds}`,
    xTitle: `training step (${training.batchSize} digits)`,
    yTitle: 'test loss',
  })
  await writeFile(picture, svg)
  log.message(resultTable(all))
  return picture
}

const folderOf = ({ out }: Stage, { folder }: Method, seed: number): string =>
  join(out, folder, `seed-${seed}`)

const percent = ({ accuracy }: Pick<Score, 'accuracy'>): string => `${(100 * accuracy).toFixed(1)} %`

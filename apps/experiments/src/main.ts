/** The command line: `node dist/main.js <experiment> [--quick] [--seeds 1,2,3] [--out folder]`. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { parse, View } from 'vega'
import { bases } from './bases.js'
import type { Experiment } from './experiment.js'
import { expressiveness } from './expressiveness.js'
import { frequencyBias } from './frequency-bias.js'
import { language, languageDescription } from './language.js'
import { mails } from './mails.js'
import { parameters } from './parameters.js'
import { markdownTable } from './table-text.js'

interface Options {
  readonly out: string
  readonly quick?: boolean
  readonly seeds: readonly number[]
}

const program = new Command('experiments').description(
  'Repeats experiments of the FourierFT paper on a small scale, and compares methods on real mails and texts. Prints a table and draws pictures.',
)
for (const experiment of [expressiveness, parameters, frequencyBias, bases, mails])
  commandOf(experiment).action((options: Options) => perform(experiment, options))
commandOf(languageDescription)
  .requiredOption('--model <folder>', 'what language-model/export.py wrote')
  .action(({ model, ...options }: Options & { readonly model: string }) => perform(language(model), options))

try {
  await program.parseAsync()
} catch (error) {
  console.error(`experiments: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
}

async function perform(experiment: Experiment, { out, quick = false, seeds }: Options): Promise<void> {
  const folder = resolve(out)
  await mkdir(folder, { recursive: true })
  const backend = await experiment.start()
  const usedSeeds = quick ? seeds.slice(0, 1) : seeds
  const { table, figure, moreFigures = {} } = await experiment.run({ seeds: usedSeeds, quick, folder })
  const figures = { [experiment.name]: figure }
  for (const [key, spec] of Object.entries(moreFigures)) figures[`${experiment.name}-${key}`] = spec
  const text = [
    `# ${experiment.title}`,
    markdownTable(table),
    `Mean and sample standard deviation of seeds ${usedSeeds.join(', ')}. ${backend}.`,
    `    npm run experiments -- ${process.argv.slice(2).join(' ')}`,
    ...Object.keys(figures).map((name) => `![${experiment.title}](${name}.svg)`),
  ].join('\n\n')
  await writeFile(join(folder, `${experiment.name}.md`), `${text}\n`)
  console.log(markdownTable(table))
  for (const [name, spec] of Object.entries(figures)) {
    const picture = join(folder, `${name}.svg`)
    await writeFile(picture, await new View(parse(spec), { renderer: 'none' }).toSVG())
    console.log(`\nPicture: ${relative(process.cwd(), picture)}`)
  }
}

function commandOf({ name, title, seeds }: Pick<Experiment, 'name' | 'title' | 'seeds'>): Command {
  return program
    .command(name)
    .description(title)
    .option('--out <folder>', 'folder for the table and the picture', 'fourierft-experiments')
    .option('--seeds <list>', 'whole numbers, separated by commas', parseSeeds, seeds)
    .option('--quick', 'one seed and a few steps: enough to test the program, too few to compare the methods')
}

function parseSeeds(text: string): number[] {
  const seeds = text.split(',').map(Number)
  if (seeds.every((seed) => Number.isSafeInteger(seed) && seed >= 0)) return seeds
  throw new InvalidArgumentError('expected whole numbers, separated by commas: 1,2,3')
}

/** `fourierft entries`: prints uniform or band-pass entries, and draws the map of band-pass probabilities. */
import { bandPassEntries, bandPassMap, type Entries, type Shape, uniformEntries } from '@fourierft/core'
import type { Command } from 'commander'
import { fromCommandLine, usageError } from '../command-error.js'
import { jsonText } from '../json-text.js'
import {
  type BandPass,
  parseBandPass,
  parsePositiveInteger,
  parseSeed,
  parseShape,
} from '../option-values.js'
import type { Output } from '../output.js'
import { writeResultFile } from '../write-result-file.js'

interface Options {
  readonly shape: Shape
  readonly n: number
  readonly seed: bigint
  readonly bandpass?: BandPass
  readonly plot?: string
  readonly legacy?: true
  readonly json?: true
}

const HELP = `
Without --bandpass the entries are those that PEFT samples with this random_loc_seed: the first n numbers of torch.randperm(OUT*IN).
If OUT*IN is 214748364 or more, the whole permutation is computed, which takes up to a minute. --legacy avoids this.
Each line has the number l of an entry, its frequency j along OUT and its frequency k along IN. --json prints [[j, ...], [k, ...]].

Examples:
  $ fourierft entries --shape 768,768 --n 1000 --seed 2024 --json
  $ fourierft entries --shape 768,768 --n 1000 --seed 2024 --bandpass 100,200 --plot figure-3.svg
`

export function addEntriesCommand(program: Command, output: Output): void {
  program
    .command('entries')
    .description('print the spectral entries of a seed')
    .requiredOption('--shape <out,in>', 'shape of the layer', parseShape)
    .requiredOption('--n <count>', 'number of entries', parsePositiveInteger)
    .requiredOption('--seed <integer>', 'seed, a 64-bit integer', parseSeed)
    .option(
      '--bandpass <fc,w>',
      'sample by equation 5 of the paper: centre frequency and bandwidth',
      parseBandPass,
    )
    .option('--plot <file>', 'with --bandpass: draw the probability map and the entries as SVG')
    .option('--legacy', "older PyTorch's permutation (differs if OUT*IN is 214748364 or more)")
    .option('--json', 'print JSON')
    .addHelpText('after', HELP)
    .action((options: Options) => printEntries(options, output))
}

async function printEntries(options: Options, output: Output): Promise<void> {
  const { shape, bandpass, plot, legacy } = options
  if (legacy && bandpass) {
    throw usageError('--legacy cannot be combined with --bandpass', 'give one of them')
  }
  if (plot !== undefined && !bandpass) {
    throw usageError('--plot needs band-pass entries', 'add --bandpass FC,W')
  }
  const entries = fromCommandLine(() => makeEntries(options))
  if (plot !== undefined && bandpass) {
    // Imported here, because loading Vega takes longer than the start of any other command.
    const { bandPassFigure } = await import('../band-pass-figure.js')
    const map = fromCommandLine(() => bandPassMap({ shape, ...bandpass }))
    await writeResultFile(plot, await bandPassFigure({ map, entries, ...bandpass }))
  }
  output.result(
    options.json ? jsonText([Array.from(entries.rows), Array.from(entries.columns)]) : listing(entries),
  )
}

function makeEntries({ shape, n, seed, bandpass, legacy }: Options): Entries {
  if (bandpass) return bandPassEntries({ shape, n, seed, ...bandpass })
  return uniformEntries({ shape, n, seed, ...(legacy && { algorithm: 'legacy' }) })
}

/** Returns one line for each entry: its number l, then j and k. */
function listing({ n, shape, rows, columns }: Entries): string {
  const widths = [n, ...shape].map((count) => String(count - 1).length)
  const line = (cells: readonly (string | number)[]) =>
    cells.map((cell, column) => String(cell).padStart(widths[column] ?? 0)).join('  ')
  const lines = Array.from(rows, (j, l) => line([l, j, columns[l] ?? 0]))
  return `${[line(['l', 'j', 'k']), ...lines].join('\n')}\n`
}

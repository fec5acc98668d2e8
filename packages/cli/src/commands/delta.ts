/** `fourierft delta`: writes ΔW of one module to a safetensors file. */
import { delta, encodeFloats, type Layer, type Shape, writeSafetensors } from '@fourierft/core'
import { type Command, Option } from 'commander'
import { CommandError } from '../command-error.js'
import { loadDirectory } from '../load-directory.js'
import { parseShape } from '../option-values.js'
import type { Output } from '../output.js'
import { withOptionAdvice } from '../with-option-advice.js'
import { writeResultFile } from '../write-result-file.js'

/** 2 GiB in float32, more than twice the largest layer of current open models. */
const MAX_VALUES = 2 ** 29

interface Options {
  readonly module: string
  readonly out: string
  readonly dtype: 'float32' | 'float64'
  readonly shape?: Shape
}

const HELP = `
The file contains one tensor "delta" of shape [OUT, IN]. With fan_in_fan_out it has the same orientation, although the layer adds the transpose.
ΔW is computed in float64; --dtype float32, the default, rounds each value once.

Examples:
  $ fourierft delta my-adapter --module encoder.0.query --shape 768,768 --out delta.safetensors
  $ fourierft delta standalone --module encoder.0.query --out delta.safetensors --dtype float64
`

export function addDeltaCommand(program: Command, output: Output): void {
  program
    .command('delta')
    .description('compute the ΔW of one module')
    .argument('<dir>', 'directory of the adapter')
    .requiredOption('--module <name>', 'module name as in the file, without base_model.model.')
    .requiredOption('--out <file>', 'safetensors file to write')
    .option('--shape <out,in>', 'shape of the layer, if the file does not contain it', parseShape)
    .addOption(
      new Option('--dtype <dtype>', 'dtype of the tensor').choices(['float32', 'float64']).default('float32'),
    )
    .addHelpText('after', HELP)
    .action((directory: string, options: Options) =>
      withOptionAdvice('--shape OUT,IN', () => writeDelta(directory, options, output)),
    )
}

async function writeDelta(
  directory: string,
  { module, out, dtype, shape }: Options,
  output: Output,
): Promise<void> {
  const adapter = await loadDirectory(directory, output)
  checkSize(module, shape ?? adapter.modules.get(module)?.shape)
  await writeResultFile(out, deltaFile(adapter.layer(module, shape), dtype))
}

/** Rejects a layer that is too large before its entries are sampled, which would take minutes. */
function checkSize(module: string, shape: Shape | undefined): void {
  const values = shape === undefined ? 0 : shape[0] * shape[1]
  if (values <= MAX_VALUES) return
  throw new CommandError(
    'TOO_LARGE',
    `the ΔW of ${module} has ${values} values, more than the limit of ${MAX_VALUES}`,
    { advice: 'check --shape' },
  )
}

function deltaFile(layer: Layer, dtype: Options['dtype']): Uint8Array {
  const size = layer.shape[0] * layer.shape[1]
  const [values, fileDtype] =
    dtype === 'float64'
      ? ([delta(layer, new Float64Array(size)), 'F64'] as const)
      : ([delta(layer), 'F32'] as const)
  const tensor = { dtype: fileDtype, shape: layer.shape, bytes: encodeFloats(values, fileDtype) }
  return writeSafetensors({ tensors: new Map([['delta', tensor]]) })
}

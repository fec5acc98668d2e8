/** `fourierft merge`: writes a model with adapters in its weights. */
import { stat } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { type Adapter, escapeUnprintable, FourierFTError } from '@fourierft/core'
import type { Command } from 'commander'
import { usageError } from '../command-error.js'
import { importPackage } from '../import-package.js'
import { isSameFile } from '../is-same-file.js'
import { loadDirectory } from '../load-directory.js'
import { parseModuleNames } from '../option-values.js'
import type { Output } from '../output.js'
import { writeResultFile } from '../write-result-file.js'

interface Options {
  readonly out: string
  readonly moduleNames?: Readonly<Record<string, string | readonly string[] | null>>
}

const HELP = `
The new model has the inputs, outputs and speed of the original one, and needs no FourierFT package. Quantised weights are rejected, because their
rounding would destroy ΔW: merge into the float model, then quantise it. If the model has external data, all of them are written to one file beside the
new model: model.onnx_data for model.onnx.

Examples:
  $ fourierft merge model.onnx my-adapter --out merged.onnx
  $ fourierft merge model.onnx my-adapter --out merged.onnx --module-names '{"pooler.dense": null}'
`

export function addMergeCommand(program: Command, output: Output): void {
  program
    .command('merge')
    .description('write a model with an adapter in its weights')
    .argument('<model>', 'ONNX file of the model, or the folder of a transformers.js model')
    .argument('<dir>', 'directory of the adapter')
    .requiredOption('--out <file>', 'ONNX file to write')
    .option(
      '--module-names <json>',
      'nodes of modules that the file does not name, or null for modules that it does not contain',
      parseModuleNames,
    )
    .addHelpText('after', HELP)
    .action((model: string, directory: string, options: Options) => merge(model, directory, options, output))
}

async function merge(
  path: string,
  directory: string,
  { out, moduleNames }: Options,
  output: Output,
): Promise<void> {
  const model = await modelIn(path)
  const location = `${basename(out, extname(out))}.onnx_data`
  const dataFile = join(dirname(out), location)
  for (const file of [out, dataFile])
    if (await isSameFile(model, file))
      throw usageError(
        `${file} is the model itself, which would be overwritten`,
        'give another file to write',
      )
  const { mergeModel } = await importPackage('@fourierft/onnxruntime', () => import('@fourierft/onnxruntime'))
  const adapter = await loadDirectory(directory, output)
  const { bytes, externalData } = await mergeModel(model, adapter, {
    location,
    ...(moduleNames && { moduleNames }),
  }).catch((error: unknown) => {
    throw explained(error, adapter)
  })
  // The model comes last: without it, the data are unused.
  if (externalData) await writeResultFile(dataFile, externalData.parts)
  await writeResultFile(out, bytes)
  const labels = adapter.metadata.id2label
  output.result(
    labels === undefined
      ? `written: ${out}\n`
      : `written: ${out}; its labels belong into config.json: "id2label": ${escapeUnprintable(labels)}\n`,
  )
}

/** Returns the model's file: in a folder of a transformers.js model, the one in float32. */
async function modelIn(path: string): Promise<string> {
  const isFolder = await stat(path).then(
    (status) => status.isDirectory(),
    () => false,
  )
  return isFolder ? join(path, 'onnx', 'model.onnx') : path
}

/** Names the option of the command, and the reason that the file of a model without a head cannot show. */
function explained(error: unknown, { config, metadata }: Adapter): unknown {
  if (!FourierFTError.isInstance(error) || error.code !== 'MODULE_NOT_FOUND') return error
  const hasHead = metadata.id2label !== undefined && (config.modulesToSave ?? []).length > 0
  const advice = hasHead
    ? 'if the model was exported without a head, the head of this adapter cannot be merged: export the model with its head'
    : error.advice?.replaceAll('moduleNames', '--module-names')
  return new FourierFTError(error.code, error.problem, {
    ...error.details,
    ...(advice !== undefined && { advice }),
  })
}

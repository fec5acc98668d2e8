/** `fourierft serve`: serves a model with its adapters over HTTP, until it is stopped. */
import { stat } from 'node:fs/promises'
import type { DataType } from '@huggingface/transformers'
import { type Command, Option } from 'commander'
import { CommandError, usageError } from '../command-error.js'
import { importPackage } from '../import-package.js'
import { DTYPES } from '../open-pipeline.js'
import {
  parseBytes,
  parseCount,
  parseNames,
  parsePort,
  parsePositiveInteger,
  parseToken,
} from '../option-values.js'
import type { Output } from '../output.js'

interface Options {
  readonly adapters?: string
  readonly hubOwners?: readonly string[]
  readonly task?: string
  readonly dtype: DataType
  readonly name?: string
  readonly port: number
  readonly host: string
  readonly memory?: number
  readonly pin?: readonly string[]
  readonly maxBatch?: number
  readonly maxQueue?: number
  readonly maxGroups?: number
  readonly maxBody?: number
  readonly maxAdapter?: number
  readonly timeout?: number
  readonly gracePeriod?: number
  readonly apiKey?: string
  readonly adminToken?: string
  readonly cors?: readonly string[]
}

const HELP = `
Each subfolder of --adapters is an adapter with the name of the subfolder. It is loaded at its first use; new, changed and deleted ones are noticed at
once. Requests choose it by "model": "NAME".

  /v1/embeddings, /v1/chat/completions, /v1/completions, /v1/models   as OpenAI's
  /v1/tasks/TASK                                                      the pipelines of transformers.js
  /v2                                                                 the Open Inference Protocol (KServe, Triton)
  /metrics, /health, /health/ready                                    Prometheus, probes
  /                                                                   a page to try adapters

Ctrl-C lets running requests end. A second Ctrl-C ends at once.

Examples:
  $ fourierft serve some/model --adapters ./adapters
  $ FOURIERFT_API_KEY=secret fourierft serve ./minilm --adapters ./adapters --host 0.0.0.0 --memory 2GB
`

export function addServeCommand(program: Command, output: Output): void {
  program
    .command('serve')
    .description('serve a model with thousands of adapters over HTTP')
    .argument('<model>', 'folder of a transformers.js model, or its name on the hub')
    .option('--adapters <dir>', 'folder of adapters')
    .option(
      '--hub-owners <names>',
      'owners on the hub whose adapters may be used, separated by commas',
      parseNames,
    )
    .option('--task <task>', "task of the pipeline; default: by the model's config.json")
    .addOption(new Option('--dtype <dtype>', 'dtype of the model').choices(DTYPES).default('fp32'))
    .option('--name <name>', 'name of the model in the APIs; default: that of the folder, or that on the hub')
    .option('--port <port>', 'port; 0: a free one', parsePort, 8000)
    .option('--host <address>', 'address to listen on; 0.0.0.0: all networks', '127.0.0.1')
    .option(
      '--memory <bytes>',
      'memory for adapters, such as 500MB; default: a quarter of what is free',
      parseBytes,
    )
    .option('--pin <names>', 'adapters that stay in memory, separated by commas', parseNames)
    .option('--max-batch <rows>', 'rows of a batch; default: 32', parsePositiveInteger)
    .option('--max-queue <requests>', 'requests that wait or run; default: 1024', parsePositiveInteger)
    .option(
      '--max-groups <count>',
      'graphs for adapters of different kinds; default: 8',
      parsePositiveInteger,
    )
    .option('--max-body <bytes>', 'size of a request, such as 16MB; default: 4 MiB', parseBytes)
    .option('--max-adapter <bytes>', "size of an adapter's file, such as 200MB; default: 64 MiB", parseBytes)
    .option('--timeout <ms>', 'time for a request; default: 60000', parsePositiveInteger)
    .option('--grace-period <ms>', 'time for running requests at the end; default: 30000', parseCount)
    .addOption(
      new Option('--api-key <key>', 'clients must send it as a bearer token')
        .env('FOURIERFT_API_KEY')
        .argParser(parseToken),
    )
    .addOption(
      new Option('--admin-token <token>', 'enables loading of adapters over HTTP').env(
        'FOURIERFT_ADMIN_TOKEN',
      ),
    )
    .option(
      '--cors <origins>',
      'origins of pages that may call the server, separated by commas, or *',
      parseNames,
    )
    .addHelpText('after', HELP)
    .action((model: string, options: Options) => serveModel(model, options, output))
}

async function serveModel(model: string, options: Options, output: Output): Promise<void> {
  const { adapters, hubOwners, dtype, pin, cors, maxBody, maxAdapter, ...rest } = options
  if (model === '') throw usageError('expected a folder or a name on the hub; received an empty string')
  if (adapters !== undefined && !(await isFolder(adapters)))
    throw usageError(
      `--adapters: expected a folder; ${adapters} is none`,
      'make it, also if it is empty at first',
    )
  const { serve } = await importPackage('@fourierft/server', () => import('@fourierft/server'))
  const server = await serve({
    ...rest,
    model,
    adapters,
    ...(hubOwners && { hub: { owners: hubOwners } }),
    ...(pin && { pinned: pin }),
    ...(maxBody !== undefined && { maxBodyBytes: maxBody }),
    ...(maxAdapter !== undefined && { maxAdapterBytes: maxAdapter }),
    ...(cors && { cors: cors.includes('*') ? '*' : cors }),
    modelOptions: { dtype },
  }).catch((cause: unknown) => {
    const reason = cause instanceof Error ? cause.message : String(cause)
    const code = cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE' ? 'PORT' : 'MODEL'
    const advice =
      code === 'PORT'
        ? 'choose another --port'
        : 'check the model, --task and --dtype, and the connection if it is on the hub'
    throw new CommandError(code, `${model} cannot be served: ${reason}`, { advice })
  })
  output.diagnostic(`Serving ${model} at ${server.url}. Ctrl-C stops.\n`)
  await stopSignal()
  output.diagnostic('Stopping: running requests end first. Ctrl-C again ends at once.\n')
  process.once('SIGINT', () => process.exit(1))
  await server.close()
}

function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    process.once('SIGINT', () => resolve())
    process.once('SIGTERM', () => resolve())
  })
}

function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  )
}

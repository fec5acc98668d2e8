/**
 * Measures the time and memory of a pipeline up to its first answer, plain and with an adapter. Each case runs in a fresh process with this file as
 * its program. The peak memory would show whether a model is in memory twice.
 */
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { attach } from '@fourierft/transformers'
import { env, pipeline } from '@huggingface/transformers'
import { type Costs, inFreshProcess, measureCosts } from './fresh-process.js'
import { formatRatio, median, printSection, type RunLength, ratio } from './measure.js'
import { type ModelFolder, text } from './model-folders.js'

const ONE_THREAD = { intraOpNumThreads: 1, interOpNumThreads: 1 }
const MIB = 2 ** 20
const CASES = ['plain', 'attached', 'native', 'portable', 'merged'] as const
type Name = (typeof CASES)[number]
/** The goal for the peak memory with an adapter, as a multiple of the plain pipeline. */
const GOAL = 1.1

/** @param folders the models by their titles */
export function printStartUp(
  runLength: RunLength,
  root: string,
  folders: Readonly<Record<string, Pick<ModelFolder, 'name' | 'adapterPath'>>>,
  kernels: readonly ('native' | 'portable')[],
): void {
  printSection(
    'Start-up',
    'pipeline(), attach(), loadAdapter() of a directory, one answer and one second of waiting, as multiples of the same without adapters: ' +
      'processor time; memory at its peak and at the end. attached: without an adapter; merged: mergeAndUnload() after loadAdapter()',
  )
  const names = CASES.filter((name) => name !== 'native' || kernels.includes(name))
  for (const [title, folder] of Object.entries(folders)) {
    const rounds = Array.from({ length: runLength === 'quick' ? 1 : 3 }, () =>
      names.map((name) =>
        inFreshProcess<Costs>(import.meta.url, name, root, folder.name, folder.adapterPath),
      ),
    )
    const costsOf = (index: number, cost: keyof Costs) => rounds.map((round) => round[index][cost])
    const ratioOf = (index: number, cost: keyof Costs) => ratio(costsOf(index, cost), costsOf(0, cost))
    const plain = (cost: keyof Costs) => `${(median(costsOf(0, cost)) / MIB).toFixed(0)} MiB`
    console.log(`  ${title}: plain takes ${plain('peak')} at its peak, ${plain('atEnd')} at the end`)
    for (const [i, name] of names.entries()) {
      if (i === 0) continue
      const peak = ratioOf(i, 'peak')
      const verdict = name === 'merged' ? '' : ` (goal ${GOAL}: ${peak.median <= GOAL ? 'met' : 'missed'})`
      console.log(
        `  ${name.padEnd(30)}time ${formatRatio(ratioOf(i, 'milliseconds'))}   ` +
          `peak ${formatRatio(peak)}${verdict}   ` +
          `at the end ${formatRatio(ratioOf(i, 'atEnd'))}`,
      )
    }
  }
}

async function measureStartUp(name: Name, root: string, model: string, adapterPath: string): Promise<Costs> {
  env.localModelPath = root
  env.allowRemoteModels = false
  const { costs, result } = await measureCosts(async () => {
    const extract = await pipeline('feature-extraction', model, {
      dtype: 'fp32',
      session_options: ONE_THREAD,
    })
    if (name !== 'plain') {
      const adapters = await attach(extract, {
        native: name === 'native' || name === 'merged' ? 'auto' : false,
      })
      if (name !== 'attached') await adapters.loadAdapter(adapterPath)
      if (name === 'merged') await adapters.mergeAndUnload()
    }
    await extract(text(8))
    // In Node, transformers.js still reads the whole file in the background, although it only needs the path.
    await setTimeout(1000)
    return extract
  })
  await result.dispose()
  return costs
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [name, root, model, adapterPath] = process.argv.slice(2)
  console.log(JSON.stringify(await measureStartUp(name as Name, root, model, adapterPath)))
}

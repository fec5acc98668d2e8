/** Runs the levels on a backend, under any test runner and on any platform. */
import type { Backend } from '@fourierft/core/conformance'
import type { Level, LevelContext } from './level.js'
import { LEVELS } from './levels/index.js'
import {
  type Check,
  type ConformanceReport,
  type LevelNumber,
  type LevelResult,
  summarise,
} from './report.js'
import { loadVectors, type Vectors } from './vectors.js'

export interface ConformanceOptions {
  /** Default: all. */
  readonly levels?: readonly LevelNumber[]
  /** Whether to run only the small cases: seconds instead of a minute, and a weaker verdict. `report.quick` is then true. */
  readonly quick?: boolean
  /** Called after each check. */
  readonly onCheck?: (check: Check) => void
  /** Default: `loadVectors()`. Pass vectors if a page serves them from another address, or to load them once for several backends. */
  readonly vectors?: Vectors
}

/**
 * Checks whether a backend applies FourierFT exactly as specified. Resolves with the findings, failures included; rejects only if the
 * vectors cannot be read.
 */
export async function runConformance(
  backend: Backend,
  options: ConformanceOptions = {},
): Promise<ConformanceReport> {
  const { quick = false, onCheck } = options
  const vectors = options.vectors ?? (await loadVectors())
  const chosen = LEVELS.filter(({ level }) => options.levels?.includes(level) ?? true)
  const started = performance.now()
  const levels: LevelResult[] = []
  for (const level of chosen) levels.push(await runLevel(level, { backend, vectors, quick }, onCheck))
  return {
    backend: backend.name,
    device: backend.device,
    versions: backend.versions,
    oracle: vectors.versions,
    quick,
    seconds: (performance.now() - started) / 1000,
    levels,
  }
}

async function runLevel(
  { level, title, trains, run }: Level,
  inputs: Pick<LevelContext, 'backend' | 'vectors' | 'quick'>,
  onCheck: ConformanceOptions['onCheck'],
): Promise<LevelResult> {
  const started = performance.now()
  const checks: Check[] = []
  const add = (check: Check) => {
    checks.push(check)
    onCheck?.(check)
  }
  const fail = (name: string, limit: number | null, error: unknown) =>
    add({ level, name, status: 'fail', maxError: null, limit, reason: describe(error) })
  const context: LevelContext = {
    ...inputs,
    async check(name, limit, measure) {
      let maxError: number
      try {
        maxError = await measure()
      } catch (error) {
        fail(name, limit, error)
        return
      }
      if (maxError <= limit) add({ level, name, status: 'pass', maxError, limit })
      else add({ level, name, status: 'fail', maxError, limit, reason: `${maxError} > ${limit}` })
    },
    skip(name, reason) {
      add({ level, name, status: 'skip', maxError: null, limit: null, reason })
    },
  }
  const { trainable } = inputs.backend
  if (trains && trainable === 'nobody') {
    context.skip('training', 'users cannot train with this backend')
  } else {
    try {
      await run(context)
    } catch (error) {
      fail('the level', null, error)
    }
  }
  const seconds = (performance.now() - started) / 1000
  return summarise(level, title, checks, seconds, trains && trainable === 'suite')
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return 'code' in error
    ? `${error.name} ${String(error.code)}: ${error.message}`
    : `${error.name}: ${error.message}`
}

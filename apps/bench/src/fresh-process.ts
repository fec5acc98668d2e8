/** Measurements in a process of their own, the one way to know what something takes from the start, and the most that it takes at once. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/**
 * Runs a module of the benchmarks as a program. @returns what it prints last, a line of JSON
 *
 * @param module `import.meta.url`
 */
export function inFreshProcess<Result>(
  module: string,
  ...args: readonly (string | number | boolean)[]
): Result {
  const command = ['--expose-gc', fileURLToPath(module), ...args.map(String)]
  const { stdout, stderr, status } = spawnSync(process.execPath, command, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`the measurement ${args.join(' ')} failed: ${stderr}`)
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as Result
}

export interface Costs {
  /** Processor time, of all threads. */
  readonly milliseconds: number
  /** Bytes: the most that the process held resident meanwhile, above what it held before. */
  readonly peak: number
  /** Bytes: what it holds afterwards, garbage collected, above what it held before. */
  readonly held: number
}

/** What the work costs this process. Linux alone can set the mark of the peak back; elsewhere it is the process's own peak. */
export async function measureCosts<T>(
  work: () => Promise<T>,
): Promise<{ readonly costs: Costs; readonly result: T }> {
  global.gc?.()
  const mark = '/proc/self/clear_refs'
  const isLinux = existsSync(mark)
  if (isLinux) writeFileSync(mark, '5')
  const before = process.memoryUsage.rss()
  const start = process.cpuUsage()
  const result = await work()
  const { user, system } = process.cpuUsage(start)
  const peak = isLinux
    ? Number(readFileSync('/proc/self/status', 'utf8').match(/^VmHWM:\s+(\d+) kB$/m)?.[1]) * 1024
    : process.resourceUsage().maxRSS * 1024
  global.gc?.()
  const held = process.memoryUsage.rss() - before
  return { costs: { milliseconds: (user + system) / 1000, peak: peak - before, held }, result }
}

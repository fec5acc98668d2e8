/** Measurements in processes of their own: the one way to have memory as one wants it, and to know what something takes from the start, and the most that it takes at once. */
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
  // Pages as users have them.
  const env = { ...process.env, GLIBC_TUNABLES: '' }
  const { stdout, stderr, status } = spawnSync(process.execPath, command, { encoding: 'utf8', env })
  if (status !== 0) throw new Error(`the measurement ${args.join(' ')} failed: ${stderr}`)
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as Result
}

/**
 * Runs a module of the benchmarks as a program that prints, with huge pages, for which the C library (glibc) asks: in small ones two sessions of
 * one model differ by up to a fifth, by the places in memory that their weights happen to get.
 */
export function printInHugePages(module: string, argument: string): void {
  const { status } = spawnSync(process.execPath, [fileURLToPath(module), argument], {
    stdio: 'inherit',
    env: { ...process.env, GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' },
  })
  if (status !== 0) process.exitCode = 1
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

/** Measures in fresh processes, which have known memory settings, and whose start-up and peak memory can be measured. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/**
 * Runs a module of the benchmarks as a program.
 *
 * @param module `import.meta.url` of the module
 * @returns the value in the last line that it prints, which is JSON
 */
export function inFreshProcess<Result>(
  module: string,
  ...args: readonly (string | number | boolean)[]
): Result {
  const command = ['--expose-gc', fileURLToPath(module), ...args.map(String)]
  // Memory pages of the size that users have.
  const env = { ...process.env, GLIBC_TUNABLES: '' }
  const { stdout, stderr, status } = spawnSync(process.execPath, command, { encoding: 'utf8', env })
  if (status !== 0) throw new Error(`the measurement ${args.join(' ')} failed: ${stderr}`)
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as Result
}

/**
 * Runs a module of the benchmarks as a program that prints its results, with huge pages (an option of glibc). With small pages, the times of two
 * sessions of one model differ by up to a fifth, depending on the addresses of their weights.
 */
export function printInHugePages(module: string, argument: string): void {
  const { status } = spawnSync(process.execPath, [fileURLToPath(module), argument], {
    stdio: 'inherit',
    env: { ...process.env, GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' },
  })
  if (status !== 0) process.exitCode = 1
}

export interface Costs {
  /** The processor time of all threads. */
  readonly milliseconds: number
  /** Bytes: the peak of the resident memory, minus the resident memory before. */
  readonly peak: number
  /** Bytes: the resident memory after garbage collection, minus the resident memory before. */
  readonly atEnd: number
}

/** Measures the costs of `work` in this process. Only Linux can reset the peak; elsewhere it is the peak since the start of the process. */
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
  const peak = peakMemory()
  global.gc?.()
  const atEnd = process.memoryUsage.rss() - before
  return { costs: { milliseconds: (user + system) / 1000, peak: peak - before, atEnd }, result }
}

/** @returns the peak of the resident memory of this process, in bytes */
export function peakMemory(): number {
  const status = '/proc/self/status'
  if (!existsSync(status)) return process.resourceUsage().maxRSS * 1024
  return Number(readFileSync(status, 'utf8').match(/^VmHWM:\s+(\d+) kB$/m)?.[1]) * 1024
}

export interface StepCosts {
  /** The processor time of each step, without the first one. */
  readonly milliseconds: readonly number[]
  /** Bytes: the peak of the resident memory of the process. */
  readonly peak: number
}

/** Measures steps after a first one, in which memory is allocated. */
export async function measureSteps(steps: number, step: () => Promise<unknown>): Promise<StepCosts> {
  await step()
  const milliseconds: number[] = []
  for (let i = 0; i < steps; i++) {
    const start = processorTime()
    await step()
    milliseconds.push(processorTime() - start)
  }
  return { milliseconds, peak: peakMemory() }
}

/** @returns the processor time of this process so far, in milliseconds */
export function processorTime(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

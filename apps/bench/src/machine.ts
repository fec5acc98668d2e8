/** Describes the versions and the machine of a measurement, to print with its results. */
import { arch, availableParallelism, cpus, platform, totalmem } from 'node:os'

export function describeMachine(): string {
  const { node, v8 } = process.versions
  const memory = Math.round(totalmem() / 2 ** 30)
  const model = cpus()[0]?.model.trim() ?? 'unknown processor'
  return `Node ${node}, V8 ${v8}, ${platform()} ${arch()}, ${model}, ${availableParallelism()} threads, ${memory} GiB`
}

/** The processor time of all threads since `start`, a result of `process.cpuUsage()`. */
export function secondsSince(start: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(start)
  return (user + system) / 1e6
}

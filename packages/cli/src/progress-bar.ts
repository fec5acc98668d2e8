/** A progress bar on standard error, if that is a terminal. */
import { SingleBar } from 'cli-progress'

export interface ProgressBar {
  update(done: number, total: number, text: string): void
  stop(): void
}

export function progressBar(): ProgressBar {
  if (!process.stderr.isTTY) return { update() {}, stop() {} }
  const bar = new SingleBar({
    format: '{bar} {value}/{total} steps, {text}, {eta_formatted} left',
    stream: process.stderr,
    hideCursor: true,
  })
  let hasStarted = false
  return {
    update(done, total, text) {
      if (!hasStarted) bar.start(total, 0, { text })
      hasStarted = true
      bar.update(done, { text })
    },
    stop() {
      if (hasStarted) bar.stop()
      hasStarted = false
    },
  }
}

/** A progress bar on a terminal; in a pipe or on CI a plain line every now and then. */
import { isCI, isTTY, progress } from '@clack/prompts'

export interface Progress {
  /** `done` of the steps are done. */
  update(done: number, message: string): void
  /** All are. */
  finish(message: string): void
}

/** How many lines a pipe gets for one bar. */
const plainLines = 4

export function startProgress(title: string, steps: number): Progress {
  return isTTY(process.stdout) && !isCI() ? bar(title, steps) : lines(title, steps)
}

function bar(title: string, steps: number): Progress {
  const shown = progress({ max: steps, size: 30, style: 'heavy' })
  shown.start(title)
  let last = 0
  return {
    update(done, message) {
      shown.advance(done - last, `${title}  ${message}`)
      last = done
    },
    finish: (message) => shown.stop(`${title}  ${message}`),
  }
}

function lines(title: string, steps: number): Progress {
  const every = Math.ceil(steps / plainLines)
  return {
    update(done, message) {
      if (done % every === 0 && done < steps) console.log(`${title}  ${done}/${steps}  ${message}`)
    },
    finish: (message) => console.log(`${title}  ${message}`),
  }
}

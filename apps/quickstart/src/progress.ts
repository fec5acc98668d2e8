/** Shows progress: as a bar on a terminal, as a few plain lines in a pipe or on CI. */
import { isCI, isTTY, progress } from '@clack/prompts'

export interface Progress {
  /** Shows that `done` steps are done. */
  update(done: number, message: string): void
  /** Shows that all steps are done. */
  finish(message: string): void
}

/** The number of lines of each task in a pipe or on CI. */
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

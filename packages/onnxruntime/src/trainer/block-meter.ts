/** Measures how long a thread handles no other events: in browsers, how long a page does not respond. */
import { platform } from '#platform'

export class BlockMeter {
  #longest = 0
  #start = performance.now()

  /** Lets the thread handle the events that wait. */
  async pause(): Promise<void> {
    this.#stop()
    await platform.nextTask()
    this.#start = performance.now()
  }

  /** Does work that another thread or device may do. Then only its start counts; in the end its result arrives as an event. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    let [hasPaused, isDone] = [false, false]
    platform.nextTask().then(() => {
      if (isDone) return
      hasPaused = true
      this.#stop()
    })
    try {
      return await work()
    } finally {
      isDone = true
      if (hasPaused) this.#start = performance.now()
    }
  }

  /** The longest time without other events so far, in milliseconds. */
  longest(): number {
    this.#stop()
    return this.#longest
  }

  #stop(): void {
    this.#longest = Math.max(this.#longest, performance.now() - this.#start)
  }
}

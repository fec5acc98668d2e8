/** A file of finished runs, one in each line, so that an experiment of many minutes can be continued, and its numbers read again. */
import { appendFile, mkdir, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'

export class RunLog<Result extends object> {
  readonly #path: string | undefined

  /** @param path a JSONL file; undefined: nothing is kept */
  constructor(path: string | undefined) {
    this.#path = path
  }

  /** Returns the result of these settings from the file; otherwise computes it, and adds it to the file. */
  async run(settings: object, compute: () => Promise<Result>): Promise<Result> {
    const key = JSON.stringify(settings)
    const known = (await this.#read()).find((one) => JSON.stringify(one.settings) === key)
    if (known) return known.result
    const result = await compute()
    if (this.#path !== undefined) {
      await mkdir(dirname(this.#path), { recursive: true })
      await appendFile(this.#path, `${JSON.stringify({ settings, result })}\n`)
    }
    return result
  }

  async #read(): Promise<readonly { readonly settings: object; readonly result: Result }[]> {
    if (this.#path === undefined) return []
    const text = await readFile(this.#path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return ''
      throw error
    })
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))
  }
}

// A reporter for vitest that writes the results of all tests into one JSON file, for `summary.js`. The JSON reporter of vitest omits hooks that fail
// and errors outside of tests.

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, relative } from 'node:path'

export class VitestReport {
  /** @param file the path of the report */
  constructor(file) {
    this.file = file
  }

  onTestRunEnd(modules, unhandledErrors) {
    const tests = []
    const errors = unhandledErrors.map((error) => ({ name: 'outside of any test', message: error.message }))
    for (const module of modules) {
      const file = relative(process.cwd(), module.moduleId)
      const add = (name, list) =>
        list.forEach(({ message }) => {
          errors.push({ name, message })
        })
      add(file, module.errors())
      for (const suite of module.children.allSuites()) add(`${file} > ${suite.fullName}`, suite.errors())
      for (const test of module.children.allTests()) {
        const { state, note } = test.result()
        tests.push({ name: `${file} > ${test.fullName}`, ownName: test.name, state, ...(note && { note }) })
      }
    }
    mkdirSync(dirname(this.file), { recursive: true })
    writeFileSync(this.file, JSON.stringify({ tests, errors }))
  }
}

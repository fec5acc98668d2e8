// Summarises the reports of `vitest-report.js`. Prints each gap (a part of the conformance suite that a backend does not have), each skipped test
// with the reason, each error outside of a test, and a last line with the counts.
//
//   node scripts/summary.js REPORT.json… [--no-skips]
//
// The exit status is 1 if a test or a suite failed, if a file did not load, if no test passed, or, with the flag, if a test was skipped.

import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** Matches the name of a test that represents a gap. */
const GAP = /^gap: /

/** Prints the summary. @returns whether a test passed and nothing failed */
export function printSummary(files, { allowSkips = true } = {}) {
  const reports = files.map((file) =>
    existsSync(file)
      ? JSON.parse(readFileSync(file, 'utf8'))
      : { tests: [], errors: [{ name: file, message: 'the test runner wrote no report' }] },
  )
  const tests = reports.flatMap((report) => report.tests)
  const errors = reports.flatMap((report) => report.errors)
  const failed = errors.length + count(tests, 'failed')
  // If a hook fails, its tests do not run. They count as skipped, and the error of the hook as failed.
  const skipped = tests.filter(({ state }) => state === 'skipped')
  const gaps = tests.filter(({ state, ownName }) => state === 'passed' && GAP.test(ownName))
  const passed = count(tests, 'passed') - gaps.length

  for (const { name, ownName } of gaps)
    console.log(`${ownName} (${name.slice(0, -ownName.length).replace(/[ >]+$/, '')})`)
  for (const { name, note } of skipped) console.log(`skipped: ${name}${note ? ` (${note})` : ''}`)
  for (const { name, message } of errors) console.log(`failed: ${name}: ${message.split('\n')[0]}`)
  console.log(`${passed} passed, ${failed} failed${skipped.length > 0 ? `, ${skipped.length} skipped` : ''}`)
  return passed > 0 && failed === 0 && (allowSkips || skipped.length === 0)
}

function count(tests, wanted) {
  return tests.filter(({ state }) => state === wanted).length
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const parameters = process.argv.slice(2)
  const files = parameters.filter((argument) => !argument.startsWith('--'))
  process.exitCode = printSummary(files, { allowSkips: !parameters.includes('--no-skips') }) ? 0 : 1
}

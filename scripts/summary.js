// Reads the report that the test runner wrote and prints what its own output leaves out: the name of each skipped test (the name holds
// the reason), and one plain closing line.
//
//   node scripts/summary.js REPORT.json [--no-skips]      exit status 1 where a test failed, none ran, or (with the flag) one was skipped

import { existsSync, readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Prints the summary; true when something ran and nothing failed. */
export function printSummary(file, { allowSkips = true } = {}) {
  if (!existsSync(file)) {
    console.log('the test runner wrote no report\n0 passed, 1 failed')
    return false
  }
  const report = JSON.parse(readFileSync(file, 'utf8'))
  const skipped = []
  let passed = 0
  let failed = 0
  for (const suite of report.testResults) {
    const place = relative(process.cwd(), suite.name)
    if (suite.assertionResults.length === 0) {
      // A file that could not be loaded has no tests of its own; it counts as one failure.
      failed += 1
      console.log(`failed: ${place}: ${suite.message ?? 'no test in this file'}`)
    }
    for (const test of suite.assertionResults) {
      if (test.status === 'passed') passed += 1
      else if (test.status === 'failed') failed += 1
      else skipped.push(`${place} > ${test.fullName}`)
    }
  }
  for (const name of skipped) console.log(`skipped: ${name}`)
  console.log(`${passed} passed, ${failed} failed${skipped.length > 0 ? `, ${skipped.length} skipped` : ''}`)
  return passed > 0 && failed === 0 && (allowSkips || skipped.length === 0)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [file, ...flags] = process.argv.slice(2)
  process.exitCode = printSummary(file, { allowSkips: !flags.includes('--no-skips') }) ? 0 : 1
}

/** The table of operators in the README is that of the code. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { GRADIENT_RULES, isConstantOperator, RULE_FAMILIES } from './gradient-rules.js'
import { UNFOLDED_OPERATORS } from './unfold/unfold-fused.js'

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')

/** Operators of ONNX first, then those of other domains, by name. */
function list(operators: Iterable<string>): string {
  const sorted = [...operators].sort(
    (a, b) => Number(a.includes(':')) - Number(b.includes(':')) || (a < b ? -1 : 1),
  )
  return sorted.map((name) => `\`${name}\``).join(', ')
}

test('the README lists the operators with a gradient rule', () => {
  const families = Object.entries(RULE_FAMILIES).map(
    ([family, rules]) => [family, rules.map(([name]) => name)] as const,
  )
  const rows = [...families, ['attention', [...UNFOLDED_OPERATORS.keys()]] as const]
  const table = [
    '| family | operators |',
    '| --- | --- |',
    ...rows.map(([family, names]) => `| ${family} | ${list(names)} |`),
  ]
  const [, shown] = /<!-- gradient rules -->\n\n([\s\S]*?)\n\n<!-- \/gradient rules -->/.exec(readme) ?? []
  expect(shown).toBe(table.join('\n'))
})

test('each operator is in one family', () => {
  const all = Object.values(RULE_FAMILIES).flatMap((rules) => rules.map(([name]) => name))
  expect(new Set(all).size).toBe(all.length)
  expect([...UNFOLDED_OPERATORS.keys()].filter((name) => GRADIENT_RULES.has(name))).toEqual([])
  const constant = all.filter((opType) => isConstantOperator({ domain: '', opType } as never))
  expect(constant).toEqual([])
})

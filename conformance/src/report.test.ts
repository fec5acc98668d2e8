import { describe, expect, it } from 'vitest'
import {
  type Check,
  type ConformanceReport,
  formatMarkdown,
  formatMarkdownNotes,
  formatMarkdownTable,
  formatTable,
  summarise,
  toRows,
} from './report.js'

const pass = (maxError: number, limit: number, name = 'a'): Check => ({
  level: 3,
  name,
  status: 'pass',
  maxError,
  limit,
})
const skip: Check = {
  level: 3,
  name: 'dense',
  status: 'skip',
  maxError: null,
  limit: null,
  reason: 'not offered',
}
const fail = (maxError: number | null, limit: number): Check => ({
  level: 3,
  name: 'b',
  status: 'fail',
  maxError,
  limit,
  reason: maxError === null ? 'it threw' : `${maxError} > ${limit}`,
})

describe('the verdict on a level', () => {
  it('has the error nearest to its limit, not the largest error', () => {
    expect(summarise(3, 'ΔW', [pass(5e-6, 1e-3), pass(4e-6, 1e-5), pass(0, 0)], 1)).toMatchObject({
      status: 'pass',
      maxError: 4e-6,
      limit: 1e-5,
    })
  })

  it('is a failure if one check fails', () => {
    const level = summarise(3, 'ΔW', [pass(9e-6, 1e-5), fail(2e-5, 1e-5), skip], 1)
    expect(level).toMatchObject({
      status: 'fail',
      maxError: 2e-5,
      limit: 1e-5,
      reason: 'b: 0.00002 > 0.00001',
    })
  })

  it('has no error if a check threw', () => {
    expect(summarise(3, 'ΔW', [pass(9e-6, 1e-5), fail(null, 1e-5)], 1)).toMatchObject({
      status: 'fail',
      maxError: null,
      reason: 'b: it threw',
    })
  })

  it('counts NaN, and any error where the result must be exact, as the worst', () => {
    expect(summarise(3, 'ΔW', [fail(5, 1e-5), fail(Number.NaN, 1e-5)], 1).maxError).toBeNaN()
    expect(summarise(3, 'ΔW', [fail(5, 1e-5), fail(1, 0)], 1)).toMatchObject({ maxError: 1, limit: 0 })
  })

  it('is a gap if nothing ran, and a pass with the reason of the gap if some checks ran', () => {
    expect(summarise(3, 'ΔW', [skip], 1)).toMatchObject({ status: 'skip', reason: 'dense: not offered' })
    expect(summarise(3, 'ΔW', [skip, pass(0, 0)], 1)).toMatchObject({
      status: 'pass',
      reason: 'dense: not offered',
    })
    expect(summarise(3, 'ΔW', [], 1).status).toBe('skip')
  })
})

const report: ConformanceReport = {
  backend: 'abacus',
  device: 'wood|beads',
  versions: { abacus: '1.0', node: '20' },
  oracle: { torch: '2' },
  quick: false,
  seconds: 12.34,
  levels: [
    summarise(1, 'entries', [{ ...pass(0, 0), level: 1 }], 1),
    summarise(2, 'file', [{ ...skip, level: 2 }], 1),
    summarise(3, 'ΔW', [fail(2e-5, 1e-5)], 1),
    summarise(
      4,
      'forward',
      [
        { ...pass(4.21e-6, 1e-5), level: 4 },
        { ...skip, level: 4 },
      ],
      1,
    ),
  ],
}

describe('the formats of a report', () => {
  it('has rows of JSON', () => {
    expect(toRows([report])).toEqual([
      {
        backend: 'abacus',
        device: 'wood|beads',
        level: 1,
        status: 'pass',
        maxError: 0,
        limit: 0,
        reason: null,
      },
      {
        backend: 'abacus',
        device: 'wood|beads',
        level: 2,
        status: 'skip',
        maxError: null,
        limit: null,
        reason: 'dense: not offered',
      },
      {
        backend: 'abacus',
        device: 'wood|beads',
        level: 3,
        status: 'fail',
        maxError: 2e-5,
        limit: 1e-5,
        reason: 'b: 0.00002 > 0.00001',
      },
      {
        backend: 'abacus',
        device: 'wood|beads',
        level: 4,
        status: 'pass',
        maxError: 4.21e-6,
        limit: 1e-5,
        reason: 'dense: not offered',
      },
    ])
  })

  it('has rows that JSON can hold, whatever was measured', () => {
    const levels = [summarise(3, 'ΔW', [fail(Number.NaN, 1e-5)], 1)]
    const rows = toRows([{ ...report, levels }])
    expect(JSON.parse(JSON.stringify(rows))).toEqual(rows)
    expect(rows[0]).toMatchObject({ status: 'fail', maxError: null, reason: 'b: NaN > 0.00001' })
  })

  it('has a table for the terminal', () => {
    expect(formatTable([report])).toBe(
      [
        'backend  device      1 entries  2 file  3 ΔW               4 forward                versions             time',
        '───────  ──────────  ─────────  ──────  ─────────────────  ───────────────────────  ───────────────────  ──────',
        'abacus   wood|beads  ✓ exact    gap     ✗ 2.0e-5 / 1.0e-5  ✓ 4.2e-6 / 1.0e-5 (gap)  abacus 1.0, node 20  12.3 s',
        '',
        'abacus, level 2 file, gap: dense: not offered',
        'abacus, level 3 ΔW, failed: b: 0.00002 > 0.00001',
        'abacus, level 4 forward, gap: dense: not offered',
        'vectors made with torch 2',
      ].join('\n'),
    )
  })

  it('has a Markdown format', () => {
    expect(formatMarkdown([report])).toBe(
      [
        '| backend | device | 1 entries | 2 file | 3 ΔW | 4 forward | versions | time |',
        '| --- | --- | --- | --- | --- | --- | --- | --- |',
        '| abacus | wood\\|beads | ✓ exact | gap | ✗ 2.0e-5 / 1.0e-5 | ✓ 4.2e-6 / 1.0e-5 (gap) | abacus 1.0, node 20 | 12.3 s |',
        '',
        '- abacus, level 2 file, gap: dense: not offered',
        '- abacus, level 3 ΔW, failed: b: 0.00002 > 0.00001',
        '- abacus, level 4 forward, gap: dense: not offered',
        '- vectors made with torch 2',
      ].join('\n'),
    )
  })

  it('has the table and the list separately in Markdown', () => {
    expect(`${formatMarkdownTable([report])}\n\n${formatMarkdownNotes([report])}`).toBe(
      formatMarkdown([report]),
    )
    expect(formatMarkdownTable([report]).split('\n')).toHaveLength(3)
  })

  it('does not tick a level that users cannot reach, and gives the reason', () => {
    const levels = [summarise(5, 'backward', [{ ...pass(4.21e-6, 1e-5), level: 5 }, skip], 1, true)]
    const [, , row, , note] = formatMarkdown([{ ...report, levels }]).split('\n')
    const training = 'training: users cannot train with this backend, only the suite computes these gradients'
    expect(row).toContain('| suite only: 4.2e-6 / 1.0e-5 |')
    expect(note).toBe(`- abacus, level 5 backward, gap: ${training}; dense: not offered`)
    expect(toRows([{ ...report, levels }])[0]?.reason).toBe(`${training}; dense: not offered`)
  })

  it('shows a failure of a level that users cannot reach as a failure', () => {
    const levels = [summarise(5, 'backward', [fail(2e-5, 1e-5)], 1, true)]
    expect(formatMarkdown([{ ...report, levels }])).toContain('| ✗ 2.0e-5 / 1.0e-5 |')
  })

  it('puts reports of different levels into one table, and names the versions of the oracle once', () => {
    const few = { ...report, backend: 'few', levels: report.levels.slice(0, 1) }
    const lines = formatMarkdown([few, report]).split('\n')
    expect(lines[2]).toBe('| few | wood\\|beads | ✓ exact | – | – | – | abacus 1.0, node 20 | 12.3 s |')
    expect(lines.filter((line) => line.includes('vectors made with'))).toHaveLength(1)
  })
})

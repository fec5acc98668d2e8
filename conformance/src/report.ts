/** What a run found, and its three faces: rows of JSON, a table for the terminal, Markdown for a README. All from one object. */

export type LevelNumber = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8

/** `skip`: not observed, for the reason given; never a pass in disguise. */
export type Status = 'pass' | 'fail' | 'skip'

export interface Check {
  readonly level: LevelNumber
  readonly name: string
  readonly status: Status
  /** The error found; null where nothing was measured (skipped, or it threw). */
  readonly maxError: number | null
  /** The largest error that passes; 0 where the demand is exact. */
  readonly limit: number | null
  /** Why it failed or was skipped. */
  readonly reason?: string
}

export interface LevelResult {
  readonly level: LevelNumber
  readonly title: string
  /** `fail` if a check failed; `skip` if none ran; else `pass`, with what was not observed in `reason`. */
  readonly status: Status
  /** Of the check that came nearest to its limit, or past it. */
  readonly maxError: number | null
  readonly limit: number | null
  readonly reason?: string
  readonly seconds: number
  readonly checks: readonly Check[]
}

/** One row of the table: one backend on one device. */
export interface ConformanceReport {
  readonly backend: string
  readonly device: string
  /** Of the runtime under test. */
  readonly versions: Readonly<Record<string, string>>
  /** Of the libraries that made the vectors. */
  readonly oracle: Readonly<Record<string, string>>
  /** Only the small cases were run. */
  readonly quick: boolean
  readonly seconds: number
  readonly levels: readonly LevelResult[]
}

/** One level of one backend, as `fourierft conformance --json` prints it. */
export interface ConformanceRow {
  readonly backend: string
  readonly device: string
  readonly level: LevelNumber
  readonly status: Status
  readonly maxError: number | null
  readonly limit: number | null
  readonly reason: string | null
}

/** The verdict on a level from its checks. */
export function summarise(
  level: LevelNumber,
  title: string,
  checks: readonly Check[],
  seconds: number,
): LevelResult {
  const failed = checks.filter(({ status }) => status === 'fail')
  const skipped = checks.filter(({ status }) => status === 'skip')
  const status = failed.length > 0 ? 'fail' : skipped.length === checks.length ? 'skip' : 'pass'
  // A check that threw measured nothing: beside it the largest error of the others would mislead.
  const candidates = failed.length > 0 ? failed : checks
  let worst: Check | undefined
  for (const check of candidates) if (worst === undefined || ratio(check) > ratio(worst)) worst = check
  const reasons = (failed.length > 0 ? failed : skipped).map(({ name, reason }) => `${name}: ${reason ?? ''}`)
  return {
    level,
    title,
    status,
    maxError: worst?.maxError ?? null,
    limit: worst?.limit ?? null,
    ...(reasons.length > 0 && { reason: reasons.join('; ') }),
    seconds,
    checks,
  }
}

/** How near a check came to its limit; above 1 is past it. */
function ratio({ maxError, limit }: Check): number {
  if (maxError === null || limit === null) return -1
  if (maxError === 0) return 0
  return limit === 0 || Number.isNaN(maxError) ? Number.POSITIVE_INFINITY : maxError / limit
}

/** One row for each level of each report. Numbers that JSON cannot hold (NaN, infinity) become null; the reason names them. */
export function toRows(reports: readonly ConformanceReport[]): ConformanceRow[] {
  return reports.flatMap(({ backend, device, levels }) =>
    levels.map(({ level, status, maxError, limit, reason }) => ({
      backend,
      device,
      level,
      status,
      maxError: finiteOrNull(maxError),
      limit,
      reason: reason ?? null,
    })),
  )
}

function finiteOrNull(value: number | null): number | null {
  return value !== null && Number.isFinite(value) ? value : null
}

/** A table for a terminal, and below it what failed and what was not observed. */
export function formatTable(reports: readonly ConformanceReport[]): string {
  const { header, rows, notes } = tabulate(reports)
  const widths = header.map((_, column) =>
    Math.max(...[header, ...rows].map((row) => [...(row[column] ?? '')].length)),
  )
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - [...cell].length))
      .join('  ')
      .trimEnd()
  const rule = widths.map((width) => '─'.repeat(width)).join('  ')
  return [line(header), rule, ...rows.map(line), ...(notes.length > 0 ? ['', ...notes] : [])].join('\n')
}

/** The same table in Markdown. */
export function formatMarkdown(reports: readonly ConformanceReport[]): string {
  const { header, rows, notes } = tabulate(reports)
  const line = (row: readonly string[]) =>
    `| ${row.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
  const list = notes.map((note) => `- ${note.replaceAll('\n', ' ')}`)
  return [
    line(header),
    line(header.map(() => '---')),
    ...rows.map(line),
    ...(list.length > 0 ? ['', ...list] : []),
  ].join('\n')
}

function tabulate(reports: readonly ConformanceReport[]) {
  const columns = new Map<LevelNumber, string>()
  for (const { levels } of reports) for (const { level, title } of levels) columns.set(level, title)
  const order = [...columns].sort(([a], [b]) => a - b)
  const header = [
    'backend',
    'device',
    ...order.map(([level, title]) => `${level} ${title}`),
    'versions',
    'time',
  ]
  const notes: string[] = []
  const rows = reports.map((report) => {
    const cells = order.map(([number]) => {
      const result = report.levels.find(({ level }) => level === number)
      if (result === undefined) return '–'
      if (result.reason === undefined) return cell(result)
      const kind = result.status === 'fail' ? 'failed' : 'not observed'
      notes.push(`${report.backend}, level ${number} ${result.title}, ${kind}: ${shorten(result.reason)}`)
      return `${cell(result)}${result.status === 'pass' ? ' (gap)' : ''}`
    })
    const versions = Object.entries(report.versions).map(([name, version]) => `${name} ${version}`)
    return [
      report.backend,
      report.device,
      ...cells,
      versions.join(', '),
      `${report.seconds.toFixed(1)} s${report.quick ? ' (quick)' : ''}`,
    ]
  })
  const oracles = new Set(
    reports.map(({ oracle }) =>
      Object.entries(oracle)
        .map(([name, version]) => `${name} ${version}`)
        .join(', '),
    ),
  )
  for (const oracle of oracles) notes.push(`vectors made with ${oracle}`)
  return { header, rows, notes }
}

function cell({ status, maxError, limit }: LevelResult): string {
  if (status === 'skip') return 'gap'
  const verdict = status === 'pass' ? '✓' : '✗'
  if (maxError === null || limit === null) return verdict
  if (limit === 0) return maxError === 0 ? `${verdict} exact` : `${verdict} ${short(maxError)} / exact`
  return `${verdict} ${short(maxError)} / ${short(limit)}`
}

function short(value: number): string {
  return Number.isInteger(value) && value < 1000 ? String(value) : value.toExponential(1)
}

/** Reports are read in a terminal: a hundred failing checks are told by the first ones. */
function shorten(reason: string): string {
  return reason.length <= 400 ? reason : `${reason.slice(0, 400)} …`
}

/** The findings of a run, and their formats: rows of JSON, a table for the terminal, Markdown for READMEs. */

export type LevelNumber = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8

/** `skip`: a gap, with the reason. */
export type Status = 'pass' | 'fail' | 'skip'

export interface Check {
  readonly level: LevelNumber
  readonly name: string
  readonly status: Status
  /** The error found; null if nothing was measured (the check was skipped, or it threw). */
  readonly maxError: number | null
  /** The largest error that passes; 0 if the result must be exact. */
  readonly limit: number | null
  /** The reason why the check failed or was skipped. */
  readonly reason?: string
}

/** The verdict on one level. */
export interface LevelVerdict {
  readonly level: LevelNumber
  readonly title: string
  /** `fail` if a check failed; `skip` if none ran; otherwise `pass`, with the gaps in `reason`. */
  readonly status: Status
  /** The error that is nearest to its limit, or exceeds it most. */
  readonly maxError: number | null
  readonly limit: number | null
  /** The names and reasons of the checks that failed, or else of those that were skipped. */
  readonly reason?: string
  /** The level passes, but only the suite reaches the code: users of the package cannot train with it. */
  readonly suiteOnly?: true
}

export interface LevelResult extends LevelVerdict {
  readonly seconds: number
  readonly checks: readonly Check[]
}

/** One row of the table: one backend on one device. */
export interface ConformanceReport<Level extends LevelVerdict = LevelResult> {
  readonly backend: string
  readonly device: string
  /** Versions of the runtime under test. */
  readonly versions: Readonly<Record<string, string>>
  /** Versions of the libraries that made the vectors. */
  readonly oracle: Readonly<Record<string, string>>
  /** Whether only the small cases were run. */
  readonly quick: boolean
  readonly seconds: number
  readonly levels: readonly Level[]
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

/** Returns the verdict on a level from its checks. */
export function summarise(
  level: LevelNumber,
  title: string,
  checks: readonly Check[],
  seconds: number,
  isSuiteOnly = false,
): LevelResult {
  const failed = checks.filter(({ status }) => status === 'fail')
  const skipped = checks.filter(({ status }) => status === 'skip')
  const status = failed.length > 0 ? 'fail' : skipped.length === checks.length ? 'skip' : 'pass'
  // If a check threw, it measured nothing. The error of a passing check would then be misleading.
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
    ...(isSuiteOnly && status === 'pass' && { suiteOnly: true }),
    seconds,
    checks,
  }
}

/** Returns the error of a check divided by its limit. */
/** Returns the error relative to its limit: −1 if nothing was measured. */
function ratio({ maxError, limit }: Check): number {
  if (maxError === null || limit === null) return -1
  if (maxError === 0) return 0
  return limit === 0 || Number.isNaN(maxError) ? Number.POSITIVE_INFINITY : maxError / limit
}

/** Makes a row for each level of each report. Numbers that JSON cannot hold (NaN, infinity) become null; `reason` has them as text. */
export function toRows(reports: readonly Report[]): ConformanceRow[] {
  return reports.flatMap(({ backend, device, levels }) =>
    levels.map((verdict) => ({
      backend,
      device,
      level: verdict.level,
      status: verdict.status,
      maxError: finiteOrNull(verdict.maxError),
      limit: verdict.limit,
      reason: reasonOf(verdict) ?? null,
    })),
  )
}

type Report = ConformanceReport<LevelVerdict>

function finiteOrNull(value: number | null): number | null {
  return value !== null && Number.isFinite(value) ? value : null
}

/** Formats a table for a terminal, followed by the failures and gaps. */
export function formatTable(reports: readonly Report[]): string {
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

/** Formats the same table and list in Markdown. */
export function formatMarkdown(reports: readonly Report[]): string {
  return [formatMarkdownTable(reports), formatMarkdownNotes(reports)]
    .filter((part) => part !== '')
    .join('\n\n')
}

/** Formats only the table in Markdown: one line for each report. */
export function formatMarkdownTable(reports: readonly Report[]): string {
  const { header, rows } = tabulate(reports)
  const line = (row: readonly string[]) =>
    `| ${row.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
  return [line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n')
}

/** Formats the failures, the gaps and the versions that made the vectors as a list in Markdown. */
export function formatMarkdownNotes(reports: readonly Report[]): string {
  return tabulate(reports)
    .notes.map((note) => `- ${note.replaceAll('\n', ' ')}`)
    .join('\n')
}

function tabulate(reports: readonly Report[]) {
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
      const reason = reasonOf(result)
      if (reason === undefined) return cell(result)
      const label = result.status === 'fail' ? 'failed' : 'gap'
      notes.push(`${report.backend}, level ${number} ${result.title}, ${label}: ${shorten(reason)}`)
      return `${cell(result)}${result.status === 'pass' && !result.suiteOnly ? ' (gap)' : ''}`
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

/** Returns the reason of a verdict. For a level that only the suite reaches, the missing training comes first. */
function reasonOf({ reason, suiteOnly }: LevelVerdict): string | undefined {
  if (!suiteOnly) return reason
  const training = 'training: users cannot train with this backend, only the suite computes these gradients'
  return reason === undefined ? training : `${training}; ${reason}`
}

function cell({ status, maxError, limit, suiteOnly }: LevelVerdict): string {
  if (status === 'skip') return 'gap'
  const verdict = suiteOnly ? 'suite only:' : status === 'pass' ? '✓' : '✗'
  if (maxError === null || limit === null) return verdict
  if (limit === 0) return maxError === 0 ? `${verdict} exact` : `${verdict} ${short(maxError)} / exact`
  return `${verdict} ${short(maxError)} / ${short(limit)}`
}

function short(value: number): string {
  return Number.isInteger(value) && value < 1000 ? String(value) : value.toExponential(1)
}

/** Cuts long lists of failing checks after 400 characters. */
function shorten(reason: string): string {
  return reason.length <= 400 ? reason : `${reason.slice(0, 400)} …`
}

/** Checks of the options `subfolder` and `revision`. They may come from outside and become parts of paths, so they must not lead up or elsewhere. */
import { FourierFTError } from '../errors.js'

/**
 * @returns folder names joined by `/`, without a slash at either end; empty for the source itself
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function checkSubfolder(subfolder: unknown): string {
  if (subfolder === undefined || subfolder === '') return ''
  if (typeof subfolder === 'string') {
    const path = subfolder.replace(/\/$/, '')
    if (leadsDown(path)) return path
  }
  throw invalid('subfolder', 'the name of a folder below the source', subfolder)
}

/**
 * Checks less than Git does: its rules for the names of branches and tags are stricter.
 *
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function checkRevision(revision: unknown = 'main'): string {
  if (typeof revision === 'string' && leadsDown(revision)) return revision
  throw invalid('revision', 'the name of a branch, a tag or a commit', revision)
}

/** Backslashes and drive letters lead elsewhere on Windows. Half of a surrogate pair cannot be part of a URL. */
function leadsDown(path: string): boolean {
  const isName = (part: string) => part !== '' && part !== '.' && part !== '..'
  return path.split('/').every(isName) && !/[\\:\p{Cc}\p{Cs}]/u.test(path)
}

function invalid(option: string, expected: string, received: unknown): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `${option}: expected ${expected}, or several names joined by '/'; received ${JSON.stringify(received)}`,
    { option, expected, received },
  )
}

/** The options `subfolder` and `revision`, which may come from outside and become parts of paths: they lead down, never up or elsewhere. */
import { FourierFTError } from '../errors.js'

/**
 * @returns folder names joined by `/`, without a slash at either end; empty: the source itself
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
 * Git's own rules for the names of branches and tags are stricter.
 *
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function checkRevision(revision: unknown = 'main'): string {
  if (typeof revision === 'string' && leadsDown(revision)) return revision
  throw invalid('revision', 'the name of a branch, a tag or a commit', revision)
}

/** Backslashes and drive letters lead elsewhere on Windows, and half of a surrogate pair fits into no URL. */
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

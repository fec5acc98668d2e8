/** Checks the options `subfolder` and `revision`. Their values can be untrusted and become parts of paths: they must not lead out of the source. */
import { FourierFTError } from '../errors.js'

/**
 * Checks the name of a subfolder.
 *
 * @returns folder names joined by `/`, without a slash at either end; empty for the source itself
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function checkSubfolder(subfolder: unknown): string {
  if (subfolder === undefined || subfolder === '') return ''
  if (typeof subfolder === 'string') {
    const path = subfolder.replace(/\/$/, '')
    if (isBelow(path)) return path
  }
  throw invalid('subfolder', 'the name of a folder below the source', subfolder)
}

/**
 * Checks the name of a revision. Git's rules for the names of branches and tags are stricter.
 *
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function checkRevision(revision: unknown = 'main'): string {
  if (typeof revision === 'string' && isBelow(revision)) return revision
  throw invalid('revision', 'the name of a branch, a tag or a commit', revision)
}

/**
 * Whether a path stays below its root. On Windows, backslashes and drive letters can lead out of it. Half of a surrogate pair cannot be part
 * of a URL.
 */
function isBelow(path: string): boolean {
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

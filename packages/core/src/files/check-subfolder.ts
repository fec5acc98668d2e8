/** The option `subfolder`, which may come from outside: it leads down, never up or elsewhere. */
import { FourierFTError } from '../errors.js'

/**
 * @returns folder names joined by `/`, without a slash at either end; empty: the source itself
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function checkSubfolder(subfolder: unknown): string {
  if (subfolder === undefined || subfolder === '') return ''
  const parts = typeof subfolder === 'string' ? subfolder.replace(/\/$/, '').split('/') : []
  if (parts.length > 0 && parts.every(isName)) return parts.join('/')
  throw new FourierFTError(
    'INVALID_OPTION',
    `subfolder: expected the name of a folder below the source, or several joined by '/'; received ${JSON.stringify(subfolder)}`,
    { option: 'subfolder', expected: "names joined by '/'", received: subfolder },
  )
}

/** Backslashes and drive letters lead elsewhere on Windows. */
function isName(part: string): boolean {
  return part !== '' && part !== '.' && part !== '..' && !/[\\:\p{Cc}]/u.test(part)
}

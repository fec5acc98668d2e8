/** `clientMessage`: the message of an error of files, without the paths of the server. */
import { homedir, tmpdir } from 'node:os'
import { basename, dirname } from 'node:path'
import { escapeUnprintable, type FourierFTError } from '@fourierft/core'

/** Most causes that are searched for paths. */
const MAX_CAUSES = 4
/** Characters at the beginning of a long path that messages always show: they leave out the middle of long words. */
const SHOWN = 150

/** Strangers read the message, so files have their names alone. */
export function clientMessage(error: FourierFTError): string {
  const files = filesOf(error).filter(isAbsolute)
  let message = error.message
  // The longest first, because a file lies in a folder, which can lie in another one.
  const replacements = [
    ...files.map((file) => [file, basename(file)] as const),
    ...[...files.map(dirname), process.cwd(), homedir(), tmpdir()].map((folder) => [folder, '…'] as const),
  ].sort(([a], [b]) => b.length - a.length)
  for (const [path, name] of replacements) {
    if (path.length <= 1) continue
    const written = escapeUnprintable(path)
    message = message.replaceAll(`file://${written}`, () => name).replaceAll(written, () => name)
    if (written.length > SHOWN) message = message.replace(wordsWith(written.slice(0, SHOWN)), () => name)
  }
  return message
}

const isAbsolute = (path: string) => /^(\/|[a-z]:[\\/]|\\\\)/i.test(path)

/** Finds words that begin with a text. */
function wordsWith(start: string): RegExp {
  return new RegExp(`${start.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}[^\\s,;:'"]*`, 'g')
}

/** The files that an error and its causes name. */
function filesOf(error: unknown): string[] {
  const files: string[] = []
  let cause = error
  for (let depth = 0; depth < MAX_CAUSES && cause instanceof Error; depth++) {
    const { details, path } = cause as { details?: { file?: unknown }; path?: unknown }
    for (const file of [details?.file, path]) if (typeof file === 'string') files.push(file)
    cause = cause.cause
  }
  return files
}

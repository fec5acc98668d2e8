import { escapeUnprintable } from '@fourierft/core'

/** Returns `fourierft: CODE: message` as one line, even if the message has several. */
export function diagnosticLine(code: string, message: string): string {
  return `fourierft: ${code}: ${escapeUnprintable(message.trim().replace(/\s*[\r\n]+\s*/g, ' '))}`
}

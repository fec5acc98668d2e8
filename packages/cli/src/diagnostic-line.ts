import { escapeUnprintable } from '@fourierft/core'

/** @returns `fourierft: CODE: message`, in one line whatever the message holds */
export function diagnosticLine(code: string, message: string): string {
  return `fourierft: ${code}: ${escapeUnprintable(message.trim().replace(/\s*[\r\n]+\s*/g, ' '))}`
}

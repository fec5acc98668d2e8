import { printable } from './printable.js'

/** @returns `fourierft: CODE: message`, in one line whatever the message holds */
export function diagnosticLine(code: string, message: string): string {
  return `fourierft: ${code}: ${printable(message.trim().replace(/\s*[\r\n]+\s*/g, ' '))}`
}

/**
 * Text from a file as the terminal may have it: control characters (C0, delete, C1), which could move the cursor, hide a line or set
 * the title, are escaped as in JSON, so that a string within JSON keeps its value.
 */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

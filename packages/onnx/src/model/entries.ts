/** Lists of keys and values (`StringStringEntryProto`), such as `metadata_props`. */
import type { Where } from './malformed.js'
import { Entry } from './schema.js'
import type { WireMessage } from './wire-message.js'

/** The entries in all fields of the number; the last one of a key counts. */
export function readEntries(message: WireMessage, number: number, where: Where): Map<string, string> {
  const entries = new Map<string, string>()
  message.budget?.check('entry', message.count(number), where)
  const part = message.parts()
  while (part.next(number)) {
    const entry = part.reading(where)
    entries.set(entry.text(Entry.key) ?? '', entry.text(Entry.value) ?? '')
  }
  return entries
}

/** Lists of keys and values (`StringStringEntryProto`), such as `metadata_props`. */
import type { Where } from './invalid-onnx.js'
import { Entry } from './schema.js'
import type { WireMessage } from './wire-message.js'

/** The entries in all fields of the number; the last one of a key counts. */
export function readStringMap(message: WireMessage, number: number, where: Where): Map<string, string> {
  const entries = new Map<string, string>()
  message.budget?.check('entry', message.count(number), where)
  const cursor = message.cursor()
  while (cursor.next(number)) {
    const entry = cursor.reading(where)
    entries.set(entry.text(Entry.key) ?? '', entry.text(Entry.value) ?? '')
  }
  return entries
}

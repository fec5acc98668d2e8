/** Lists of keys and values (`StringStringEntryProto`), such as `metadata_props`. */
import type { Where } from './invalid-onnx.js'
import { Entry } from './schema.js'
import type { WireMessage } from './wire-message.js'

/** Reads the keys and values from all fields of that number. If a key occurs several times, its last value counts. */
export function readStringMap(message: WireMessage, number: number, where: Where): Map<string, string> {
  const entries = new Map<string, string>()
  message.budget?.check('entry', message.count(number), where)
  const cursor = message.cursor()
  while (cursor.next(number)) {
    const entry = cursor.readOnlyMessage(where)
    entries.set(entry.text(Entry.key) ?? '', entry.text(Entry.value) ?? '')
  }
  return entries
}

/** The elements of the page, by their ids in `encoder.html`, with their types. */
import { byId } from '../by-id.js'

export const elements = {
  status: byId('status', HTMLParagraphElement),
  error: byId('error', HTMLParagraphElement),
  coefficients: byId('coefficients', HTMLElement),
  progress: byId('progress', HTMLProgressElement),
  choices: byId('choices', HTMLFieldSetElement),
  right: byId('right', HTMLElement),
  gap: byId('gap', HTMLElement),
  swap: byId('swap', HTMLElement),
  map: byId('map', HTMLElement),
  picked: byId('picked', HTMLParagraphElement),
  emails: byId('emails', HTMLOListElement),
  text: byId('text', HTMLTextAreaElement),
  take: byId('take', HTMLButtonElement),
  run: byId('run', HTMLParagraphElement),
  opinions: byId('opinions', HTMLElement),
  files: byId('files', HTMLInputElement),
} as const

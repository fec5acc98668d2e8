/** The elements of the page, by their ids in `classifier.html`, with their types. */
import { byId } from '../by-id.js'

export const elements = {
  status: byId('status', HTMLParagraphElement),
  error: byId('error', HTMLParagraphElement),
  examples: byId('examples', HTMLOListElement),
  labels: byId('labels', HTMLDataListElement),
  add: byId('add', HTMLButtonElement),
  clear: byId('clear', HTMLButtonElement),
  form: byId('train-form', HTMLFormElement),
  epochs: byId('epochs', HTMLInputElement),
  frequencies: byId('frequencies', HTMLInputElement),
  train: byId('train', HTMLButtonElement),
  stop: byId('stop', HTMLButtonElement),
  progress: byId('progress', HTMLProgressElement),
  right: byId('right', HTMLElement),
  coefficients: byId('coefficients', HTMLElement),
  seconds: byId('seconds', HTMLElement),
  lossCurve: byId('loss-curve', HTMLElement),
  text: byId('text', HTMLTextAreaElement),
  answers: byId('answers', HTMLTableSectionElement),
  download: byId('download', HTMLButtonElement),
} as const

/** The parts of the page, by their ids in `index.html`, with their types. */

const byId = <T extends Element>(id: string, type: new () => T): T => {
  const found = document.getElementById(id)
  if (!(found instanceof type)) throw new Error(`index.html has no ${type.name} #${id}`)
  return found
}

export const elements = {
  status: byId('status', HTMLParagraphElement),
  error: byId('error', HTMLParagraphElement),
  parameters: byId('parameters', HTMLElement),
  form: byId('train-form', HTMLFormElement),
  backend: byId('backend', HTMLSelectElement),
  steps: byId('steps', HTMLInputElement),
  train: byId('train', HTMLButtonElement),
  stop: byId('stop', HTMLButtonElement),
  progress: byId('progress', HTMLProgressElement),
  frozenScore: byId('frozen-score', HTMLElement),
  tunedScore: byId('tuned-score', HTMLElement),
  onnxScore: byId('onnx-score', HTMLElement),
  onnxAnswer: byId('onnx-answer', HTMLParagraphElement),
  testCount: byId('test-count', HTMLElement),
  lossCurve: byId('loss-curve', HTMLElement),
  accuracyCurve: byId('accuracy-curve', HTMLElement),
  canvas: byId('canvas', HTMLCanvasElement),
  seen: byId('seen', HTMLCanvasElement),
  clear: byId('clear', HTMLButtonElement),
  sample: byId('sample', HTMLButtonElement),
  turn: byId('turn', HTMLInputElement),
  probabilities: byId('probabilities', HTMLTableSectionElement),
  answer: byId('answer', HTMLParagraphElement),
  download: byId('download', HTMLButtonElement),
  files: byId('files', HTMLInputElement),
} as const

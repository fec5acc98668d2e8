/** Table of contents of the Open Inference Protocol. */
export { openInference } from './open-inference.js'

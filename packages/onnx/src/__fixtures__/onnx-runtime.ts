/** Sessions of ONNX Runtime for tests: one thread, so that tests do not compete for processors, and no warnings in the log. */
import { InferenceSession } from 'onnxruntime-node'

export function createSession(
  model: Uint8Array,
  options: InferenceSession.SessionOptions = {},
): Promise<InferenceSession> {
  return InferenceSession.create(model, { intraOpNumThreads: 1, logSeverityLevel: 3, ...options })
}

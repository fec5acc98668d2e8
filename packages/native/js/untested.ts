/** Versions of ONNX Runtime that are newer than the tested ones. */

const TESTED = [1, 30] as const

/** Returns a warning if the version is newer than the tested ones, else undefined. The addon itself rejects versions that are too old. */
export function untested(version: string): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major < TESTED[0] || (major === TESTED[0] && minor <= TESTED[1])) return undefined
  return `ONNX Runtime ${version} is newer than ${TESTED.join('.')}, the newest version that @fourierft/native was tested with`
}

/** Which versions of ONNX Runtime are newer than those that the tests run with. */

const TESTED = [1, 30] as const

/** In one line, that this version is newer; undefined where it is not. Those that are too old the addon refuses. */
export function untested(version: string): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major < TESTED[0] || (major === TESTED[0] && minor <= TESTED[1])) return undefined
  return `ONNX Runtime ${version} is newer than ${TESTED.join('.')}, with which @fourierft/native was tested`
}

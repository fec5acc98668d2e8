/** The errors of this package have the fields of core's `FourierFTError`, which it does not import. The addon's errors have the same fields. */
export interface NativeErrorFields {
  readonly code: string
  /** What is wrong: `message` without the advice. */
  readonly problem: string
  /** What the caller can do; undefined if there is nothing to add to the problem. */
  readonly advice?: string
}

/** Makes an error with the code `UNSUPPORTED`. */
export function unsupported(problem: string, advice?: string): Error & NativeErrorFields {
  return withFields(new Error(messageOf(problem, advice)), {
    code: 'UNSUPPORTED',
    problem,
    ...(advice !== undefined && { advice }),
  })
}

/** Makes a `RangeError` with the code `INVALID_OPTION`. */
export function invalidOption(problem: string): RangeError & NativeErrorFields {
  return withFields(new RangeError(problem), { code: 'INVALID_OPTION', problem })
}

/** Makes a `TypeError` with the code `UNSUPPORTED_DTYPE`. */
export function unsupportedDtype(problem: string): TypeError & NativeErrorFields {
  return withFields(new TypeError(problem), { code: 'UNSUPPORTED_DTYPE', problem })
}

/** Makes a `RangeError` with the code `SHAPE_MISMATCH`. */
export function shapeMismatch(problem: string): RangeError & NativeErrorFields {
  return withFields(new RangeError(problem), { code: 'SHAPE_MISMATCH', problem })
}

export function messageOf(problem: string, advice: string | undefined): string {
  return advice === undefined ? problem : `${problem}; ${advice}`
}

function withFields<E extends Error>(error: E, fields: NativeErrorFields): E & NativeErrorFields {
  return Object.assign(error, fields)
}

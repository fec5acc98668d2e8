/** The two places that a command may write to. */
export interface Output {
  /** Standard output: the result, and nothing else. */
  readonly result: (text: string) => void
  /** Standard error: what went wrong. */
  readonly diagnostic: (text: string) => void
}

/** The two streams of a command. */
export interface Output {
  /** Writes to standard output: the result only. */
  readonly result: (text: string) => void
  /** Writes to standard error: failures and warnings. */
  readonly diagnostic: (text: string) => void
}

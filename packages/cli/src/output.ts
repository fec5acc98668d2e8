/** The two streams of a command. */
export interface Output {
  /** Writes the result to standard output. */
  readonly result: (text: string) => void
  /** Writes failures and warnings to standard error. */
  readonly diagnostic: (text: string) => void
}

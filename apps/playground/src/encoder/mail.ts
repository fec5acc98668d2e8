/** A mail of the page. */
export interface Mail {
  /** As the encoder reads it: its first 40 pieces, in lower case. */
  readonly text: string
  readonly isSpam: boolean
  /** One that the adapter was trained on, and that others are compared with. */
  readonly isKnown: boolean
}

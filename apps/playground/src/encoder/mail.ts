/** A mail of the page. */
export interface Mail {
  /** The text that the encoder reads: the first 40 word pieces, in lower case. */
  readonly text: string
  readonly isSpam: boolean
  /** Whether the adapter was trained on this mail. The other mails are compared with these. */
  readonly isKnown: boolean
}

/** An email of the page. */
export interface Email {
  /** The text that the encoder reads: the first 40 word pieces, in lower case. */
  readonly text: string
  readonly isSpam: boolean
  /** Whether the adapter was trained on this email. The other emails are compared with these. */
  readonly isKnown: boolean
}

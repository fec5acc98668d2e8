/** The examples at the start: mails to the support of a shop. */

export interface Example {
  readonly text: string
  readonly label: string
}

const mails = {
  delivery: [
    'Where is my parcel? It should have been here on Monday.',
    'The tracking page has not changed for a week.',
    'Can you send the order to my office instead?',
    'The courier left the box with a neighbour I do not know.',
  ],
  payment: [
    'I was charged twice for the same order.',
    'Please send me an invoice with our VAT number.',
    'My card is declined, although it works in other shops.',
    'When do I get the money back for the shoes I returned?',
  ],
  account: [
    'I cannot log in, the code never arrives.',
    'How do I change the email address of my profile?',
    'Please delete my account and all my data.',
    'The link to reset my password has expired.',
  ],
}

export const examples: readonly Example[] = Object.entries(mails).flatMap(([label, texts]) =>
  texts.map((text) => ({ text, label })),
)

/**
 * Parts of a model that may have layers of the same names, such as `encoder` and `decoder`. An adapter means the part that it names. The
 * name of a part is ignored only if the inputs of the file show that the file contains this part.
 */

/** The words in a part's name (`text_model`, `vision_encoder`), the inputs that a file of this part has, and those that it never has. */
const EVIDENCE: readonly (readonly [words: RegExp, needs: RegExp, rejects: RegExp])[] = [
  [/^decoder$/, /^encoder_|cross/, /^$/],
  // Only a decoder has the encoder's output and the past as inputs.
  [/^encoder$/, /./, /^(?:encoder|decoder|past)_|memory|cross/],
  [
    /^(?:text|language|lm)$/,
    /(?:^|_)(?:ids|embeds|tokens)$/,
    /pixel|image|video|patch|audio|speech|features|wave/,
  ],
  [/^(?:vision|visual|image|img|video)$/, /pixel|image|video|patch/, /(?:^|_)(?:ids|embeds|tokens)$/],
  [
    /^(?:audio|speech|acoustic)$/,
    /audio|speech|wave|^input_(?:features|values)$/,
    /pixel|image|(?:^|_)(?:ids|embeds|tokens)$/,
  ],
  // Parts of which a model has two with the same inputs.
  [
    /^(?:tower|branch|generator|discriminator|teacher|student|question|query|ctx|context|passage|document|qformer|prior|draft|thinker|talker|left|right|source|target)$/,
    /^$/,
    /^$/,
  ],
]

/** Returns whether the segment is the name of a part. */
export function isPart(segment: string): boolean {
  return wordsOf(segment).some((word) => EVIDENCE.some(([words]) => words.test(word)))
}

/**
 * Returns a function that looks up parts in a file.
 *
 * @param readInputs gives the names of the model's inputs; called when the first part is looked up
 * @returns whether the file contains the part that a segment names; true for a segment that names no part
 */
export function partsIn(readInputs: () => readonly string[]): (segment: string) => boolean {
  let missing: readonly RegExp[] | undefined
  const answers = new Map<string, boolean>()
  const isInFile = (segment: string): boolean => {
    if (!isPart(segment)) return true
    missing ??= wordsWithoutEvidence(readInputs())
    return !wordsOf(segment).some((word) => missing?.some((words) => words.test(word)))
  }
  return (segment) => {
    const answer = answers.get(segment) ?? isInFile(segment)
    answers.set(segment, answer)
    return answer
  }
}

function wordsWithoutEvidence(inputs: readonly string[]): RegExp[] {
  return EVIDENCE.flatMap(([words, needs, rejects]) =>
    inputs.some((name) => needs.test(name)) && !inputs.some((name) => rejects.test(name)) ? [] : [words],
  )
}

/** Splits the name of a part into words: text and encoder for `text_encoder_2` and `textEncoder`. */
export function wordsOf(segment: string): string[] {
  return segment.length > 100
    ? []
    : segment
        .replace(/([a-z])([A-Z])/g, '$1_$2')
        .toLowerCase()
        .split(/[_\d]+/)
        .filter((word) => word !== '')
}

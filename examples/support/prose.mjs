// English-looking sentences. The words have frequencies as in a real language, and are the same in
// each run.

const VOCABULARY = 20_000
const ONSETS = [
  'b',
  'br',
  'c',
  'ch',
  'd',
  'f',
  'g',
  'gr',
  'h',
  'l',
  'm',
  'n',
  'p',
  'pl',
  'r',
  's',
  'st',
  't',
  'tr',
  'v',
  ''
]
const VOWELS = ['a', 'e', 'i', 'o', 'u', 'ea', 'io']
const CODAS = ['', '', '', 'l', 'n', 'r', 's', 't', 'nd', 'st']

/** Returns a generator of uniform numbers below 1 (Marsaglia's xorshift, 32 bits). */
export function randomNumbers(seed) {
  let state = seed | 0 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

/** Returns a function that returns one sentence per call. */
export function sentences(seed) {
  const random = randomNumbers(seed)
  const pick = list => list[Math.floor(random() * list.length)]
  const syllable = () => pick(ONSETS) + pick(VOWELS) + pick(CODAS)
  const words = Array.from({ length: VOCABULARY }, (_, rank) => {
    // Frequent words are short.
    let word = syllable()
    for (let left = Math.log10(rank + 1) * random(); left > 1; left--) word += syllable()
    return word
  })
  // Zipf's law: the rank of a word drawn is log-uniform, so its frequency falls with 1 / rank.
  const word = () => words[Math.floor(VOCABULARY ** random()) - 1]
  return () => {
    let sentence = word()
    sentence = sentence[0].toUpperCase() + sentence.slice(1)
    for (let left = 4 + Math.floor(random() * 12); left > 0; left--) {
      sentence += (random() < 0.08 ? ', ' : ' ') + word()
    }
    return sentence + '.'
  }
}

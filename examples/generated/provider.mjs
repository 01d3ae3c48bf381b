// The dataset: the 64-bit integers 0, 1, 2 and so on. Nothing of it exists before it is read.

const WORD = 2 ** 32

export default ({ byteLength }) => ({
  byteLength,
  read(byteOffset, target) {
    const words = new Uint32Array(target.buffer, target.byteOffset, target.length / 4)
    let low = (byteOffset / 8) % WORD
    let high = Math.floor(byteOffset / 8 / WORD)
    for (let at = 0; at < words.length; at += 2) {
      words[at] = low
      words[at + 1] = high
      low += 1
      if (low === WORD) {
        low = 0
        high += 1
      }
    }
    return target.length
  }
})

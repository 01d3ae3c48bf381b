// Which chunks of a paged region are here, for people.

const [COLUMNS, ROWS] = [72, 6]
const HERE = 2

/** A block for each part of the region: the fuller, the more of its chunks are here. */
export function drawChunks(chunks) {
  const cells = COLUMNS * ROWS
  const lines = []
  for (let row = 0; row < ROWS; row++) {
    let line = ''
    for (let column = 0; column < COLUMNS; column++) {
      const cell = row * COLUMNS + column
      const from = Math.floor((cell * chunks.length) / cells)
      const to = Math.max(from + 1, Math.floor(((cell + 1) * chunks.length) / cells))
      const here = chunks.subarray(from, to).filter(state => state === HERE).length
      // Even one chunk of many shows.
      line += here === 0 ? '·' : '▁▂▃▄▅▆▇█'[Math.floor((7 * here) / (to - from))]
    }
    lines.push(`  │${line}│`)
  }
  return lines.join('\n')
}

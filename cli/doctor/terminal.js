'use strict'

// Colours and widths of a terminal.

const util = require('node:util')

const PLAIN_COLUMNS = 80
const MOST_COLUMNS = 100
const FEWEST_COLUMNS = 40

/** What a stream shows: how many columns, and whether colours. A pipe and a file get neither. */
function terminalOf(stream) {
  const columns = stream.isTTY ? stream.columns || PLAIN_COLUMNS : PLAIN_COLUMNS
  return {
    columns: Math.min(MOST_COLUMNS, Math.max(FEWEST_COLUMNS, columns)),
    // hasColors asks TERM, NO_COLOR and FORCE_COLOR.
    colors: Boolean(stream.isTTY && stream.hasColors?.())
  }
}

/** Gives text a style of util.styleText, which the first releases of Node.js 20 don't have. */
function painter(colors) {
  if (!colors || util.styleText === undefined) return (_style, text) => text
  // Whether the stream shows colours was asked already, and may be another stream than stdout.
  const options = { validateStream: false }
  return (style, text) =>
    [style].flat().reduce((painted, each) => util.styleText(each, painted, options), text)
}

/**
 * Text in lines of at most so many columns, of which some of the first line are taken, broken at
 * spaces. A word that is longer than a line is left whole; where the first word fits in a line but
 * not in what is left of the first, that stays empty.
 */
function wrap(text, columns, taken = 0) {
  const lines = ['']
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    const left = columns - last.length - (lines.length === 1 ? taken : 0)
    if (last === '' && (word.length <= left || word.length > columns))
      lines[lines.length - 1] = word
    else if (last !== '' && 1 + word.length <= left) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}

module.exports = { terminalOf, painter, wrap }

'use strict'

/**
 * Text from elsewhere, for a terminal. It may hold anything: a sequence that moves the cursor, or
 * turns what follows round.
 */
const printable = text => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')

module.exports = { printable }

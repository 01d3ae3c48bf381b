'use strict'

// Tables of captured units that are watched: see lib/instance/table-writes.js. As long as there is
// one of them, functions of WebAssembly stay replaced: an instance that is made later and is given
// the table may write to it.

const { forgetTable, watchTable } = require('../instance/table-writes.js')
const { hold } = require('./replacements.js')

let watched = 0
const collected = new FinalizationRegistry(() => {
  watched -= 1
  if (watched === 0) hold(false)
})

/** @param tables `[name, WebAssembly.Table]` of instances that are there; their code is known */
function watchTables(tables) {
  // All of them first: `hold` may be what begins to note whom they are given to.
  for (const [, table] of tables.filter(([, table]) => watchTable(table))) {
    try {
      if (watched === 0) hold(true)
    } catch {
      // A script has frozen WebAssembly.
      forgetTable(table)
      continue
    }
    watched += 1
    collected.register(table)
  }
}

module.exports = { watchTables }

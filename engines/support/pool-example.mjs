// The end of each example of a pool: its program, measured beside booting anew.

import { parseArgs } from 'node:util'
import { measureProgram, tableOf } from '../bench/lib/programs.mjs'
import { programOf } from './programs.mjs'

/** Prints the table, with --requests, --boots and --copies of the command line. */
export async function compareWithBooting(names) {
  const { values } = parseArgs({
    options: {
      requests: { type: 'string', default: '500' },
      boots: { type: 'string', default: '9' },
      copies: { type: 'string', default: '6' }
    }
  })
  const options = Object.fromEntries(
    Object.entries(values).map(([option, text]) => {
      const count = Number(text)
      if (!Number.isInteger(count) || count < 1) throw new Error(`--${option} takes a count`)
      return [option, count]
    })
  )
  const measured = []
  for (const name of names) {
    const result = await measureProgram(name, options)
    measured.push([await programOf(name), result])
    if (!result.isSame || result.discarded > 0) process.exitCode = 1
  }
  console.log(tableOf(measured))
}

// What one process measures of a program, for bench/programs.mjs. It sends one result.
//
//   node --expose-gc program-child.mjs anew NAME BOOTS       boots it for a request, as the first
//                                                            in this process and so often again
//   node --expose-gc program-child.mjs pool NAME REQUESTS    so many requests to a pool of one
//   node --expose-gc program-child.mjs memory WAY NAME COUNT how much COUNT of them take

import { pssBytes } from '../../../bench/lib/machine.mjs'
import { bootAnew, poolOf, programOf } from '../../support/programs.mjs'

const [, , what, ...args] = process.argv

/** Milliseconds that something takes, and what it gives. */
async function timed(what) {
  const started = performance.now()
  const result = await what()
  return { ms: performance.now() - started, result }
}

const MEASURES = {
  async anew(name, boots) {
    const program = await programOf(name)
    const times = []
    let first
    let digest
    for (let n = 0; n <= boots; n++) {
      const { ms, result } = await timed(async () => {
        const lent = await bootAnew(program)
        return { lent, answer: await program.request(lent, n) }
      })
      program.check(result.answer, n)
      await program.close?.(result.lent.value)
      if (n === 0) first = ms
      else times.push(ms)
    }
    if (boots > 0) {
      const lent = await bootAnew(program)
      digest = await program.digest(lent)
      await program.close?.(lent.value)
    }
    return { first, times, digest }
  },

  async pool(name, requests) {
    const program = await programOf(name)
    const { ms: madeMs, result: pool } = await timed(() => poolOf(program, 1))
    const times = []
    const restores = []
    for (let n = 0; n < requests; n++) {
      const { ms, result } = await timed(() => pool.run(lent => program.request(lent, n)))
      program.check(result, n)
      times.push(ms)
      restores.push(pool.stats().restoreMicroseconds.last / 1000)
    }
    const digest = await pool.run(lent => program.digest(lent))
    const { discarded, lastFailure } = pool.stats()
    return { madeMs, times, restores, digest, discarded, failure: lastFailure?.message }
  },

  async memory(way, name, count) {
    const program = await programOf(name)
    const kept = []
    if (way === 'pool') kept.push(await poolOf(program, count))
    else for (let n = 0; n < count; n++) kept.push(await bootAnew(program))
    for (let n = 0; n < 3; n++) {
      gc()
      await new Promise(resolve => setTimeout(resolve, 50))
    }
    return { pss: pssBytes(), kept: kept.length }
  }
}

const numbers = args.map(arg => (/^\d+$/.test(arg) ? Number(arg) : arg))
let message
try {
  message = { result: await MEASURES[what](...numbers) }
} catch (error) {
  message = { error: error.stack ?? String(error) }
}
// Some programs have timers or handles that keep a process alive.
process.send(message, () => process.exit())

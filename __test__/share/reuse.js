'use strict'

// Tokens whose descriptors' numbers were given to others on purpose: a receiver gets what was
// shared, or an error.
//
//   node __test__/share/reuse.js [tries]
//
// Prints how many were received, refused, and wrong.

const { fork } = require('node:child_process')
const { once } = require('node:events')
const { HostRegion } = require('../..')

const BATCH = 100

async function reuse(tries) {
  const receiver = fork(__filename, ['receive'])
  const sum = { received: 0, refused: 0, wrong: 0 }
  try {
    for (let done = 0; done < tries; done += BATCH) {
      const live = []
      const tokens = Array.from({ length: Math.min(BATCH, tries - done) }, (_, i) => {
        const name = `try ${done + i}`
        const region = HostRegion.copyFrom(Buffer.from(name.padEnd(20)), { name })
        const token = region.share(i % 3 === 0 ? { access: 'readonly' } : undefined)
        if (i % 2 === 0) {
          // Its numbers are free, and the next ones get them: a region, a proof and a file of
          // others.
          HostRegion.unshare(token)
          region.close()
        } else if (i % 5 === 0) live.push(region)
        else region.close()
        return token
      })
      const forged = tokens.map((token, i) => ({
        ...token,
        proof: tokens[(i + 1) % tokens.length].proof
      }))
      receiver.send([...forged, ...tokens])
      const [counts] = await once(receiver, 'message')
      for (const name of Object.keys(sum)) sum[name] += counts[name]
      for (const token of tokens) HostRegion.unshare(token)
      for (const region of live) region.close()
    }
  } finally {
    receiver.kill()
  }
  return sum
}

const REFUSALS = ['ERR_HOSTMAP_SHARE_CLOSED', 'ERR_HOSTMAP_SHARE_USED', 'ERR_HOSTMAP_SHARE_INVALID']

function receiveAll(tokens) {
  const counts = { received: 0, refused: 0, wrong: 0 }
  for (const token of tokens) {
    try {
      const region = HostRegion.receive(token)
      const text = Buffer.from(region.view()).toString().trimEnd()
      const isRight = text === token.name && region.writable === (token.access === 'shared')
      counts[isRight ? 'received' : 'wrong']++
      region.close()
    } catch (error) {
      if (!REFUSALS.includes(error.code)) throw error
      counts.refused++
    }
  }
  process.send(counts)
}

module.exports = { reuse }

if (process.argv[2] === 'receive') process.on('message', receiveAll)
else if (require.main === module) {
  reuse(Number(process.argv[2] ?? 1000)).then(sum => {
    console.log(sum)
    process.exitCode = sum.wrong === 0 ? 0 : 1
  })
}

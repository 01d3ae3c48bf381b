'use strict'

// Processes that publish under the same few names, replace each other, close what they have
// published, put old tokens into the files, reuse the numbers of their descriptors at once, and are
// killed at any moment; and one that finds: it gets what was published under the name, or an error.
//
//   node __test__/share/churn.js [tries] [seed]
//
// Prints how many were found, refused, and wrong; how often there was nobody, which is no try, and
// a publisher was killed; and what was left in the folder.

const { fork } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { HostRegion } = require('../..')

const NAMES = ['a', 'b', 'c']
const PUBLISHERS = 2
const BYTES = 8192
const REFUSALS = [
  'ERR_HOSTMAP_NAME_NOT_FOUND',
  'ERR_HOSTMAP_NAME_INVALID',
  // A token of a process that has ended, in the file of one that lives.
  'ERR_HOSTMAP_SHARE_DENIED'
]

/** The same numbers for the same seed, on every machine. */
function randomOf(seed) {
  let state = seed >>> 0 || 1
  return most => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % most
  }
}

/** All of its bytes say what it is: its name, which begins with the one that it is published by. */
const contentOf = name => Buffer.alloc(BYTES, `${name}.`)

async function churn(tries, seed = 1) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-churn-'))
  const random = randomOf(seed)
  const sum = { found: 0, refused: 0, wrong: 0, nobody: 0, killed: 0, left: [] }
  const start = () => fork(__filename, ['publish', directory, String(random(2 ** 31))])
  const publishers = Array.from({ length: PUBLISHERS }, start)
  let isDone = false
  const killing = (async () => {
    while (!isDone) {
      await new Promise(resolve => setTimeout(resolve, 500 + random(1000)))
      const index = random(PUBLISHERS)
      publishers[index].kill('SIGKILL')
      sum.killed++
      publishers[index] = start()
    }
  })()
  try {
    for (let done = 0; done < tries;) {
      const outcome = tryOne(directory, NAMES[random(NAMES.length)])
      sum[outcome]++
      if (outcome !== 'nobody') done++
      if (outcome === 'nobody' || done % 20 === 0) await new Promise(setImmediate)
    }
  } finally {
    isDone = true
    await killing
    const ended = publishers.map(publisher => once(publisher, 'exit'))
    for (const publisher of publishers) publisher.kill('SIGKILL')
    await Promise.all(ended)
    HostRegion.published({ directory })
    sum.left = fs.readdirSync(directory)
    fs.rmSync(directory, { recursive: true })
  }
  return sum
}

function tryOne(directory, name) {
  let region
  try {
    region = HostRegion.find(name, { directory })
  } catch (error) {
    if (!REFUSALS.includes(error.code)) throw error
    return error.code === 'ERR_HOSTMAP_NAME_NOT_FOUND' ? 'nobody' : 'refused'
  }
  const bytes = Buffer.from(region.view())
  const isRight =
    region.name[0] === name && bytes.equals(contentOf(region.name)) && !region.writable
  region.close()
  return isRight ? 'found' : 'wrong'
}

/** Until it is killed. */
function publish(directory, seed) {
  const random = randomOf(seed)
  const live = []
  const old = new Map(NAMES.map(name => [name, []]))
  for (let version = 0; ; version++) {
    const name = NAMES[random(NAMES.length)]
    const file = path.join(directory, `${name}.region`)
    const region = HostRegion.copyFrom(contentOf(`${name} ${process.pid} ${version}`), {
      name: `${name} ${process.pid} ${version}`
    })
    // Proofs and files of others, which get the numbers that are free.
    const token = region.share()
    try {
      live.push({
        region,
        publication: region.publish(name, { directory, replace: random(8) > 0 })
      })
      if (random(50) === 0) old.get(name).push(fs.readFileSync(file))
      if (random(100) === 0 && old.get(name).length > 0) {
        fs.writeFileSync(file, old.get(name)[random(old.get(name).length)], { flag: 'r+' })
      }
    } catch (error) {
      if (!['ERR_HOSTMAP_NAME_TAKEN', 'ERR_HOSTMAP_NAME_INVALID', 'ENOENT'].includes(error.code))
        throw error
      if (live.at(-1)?.region !== region) region.close()
    }
    HostRegion.unshare(token)
    while (live.length > random(4)) {
      const { region, publication } = live.splice(random(live.length), 1)[0]
      if (random(2) === 0) publication.close()
      region.close()
    }
  }
}

module.exports = { churn }

if (process.argv[2] === 'publish') publish(process.argv[3], Number(process.argv[4]))
else if (require.main === module) {
  churn(Number(process.argv[2] ?? 1000), Number(process.argv[3] ?? 1)).then(sum => {
    console.log(sum)
    process.exitCode = sum.wrong === 0 && sum.left.length === 0 ? 0 : 1
  })
}

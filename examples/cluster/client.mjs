// Sends requests all the time, and checks each answer. Reports when it is asked to.

import http from 'node:http'
import { once } from 'node:events'
import { sumOf } from './dataset.mjs'

const AT_ONCE = 16
// 64 KiB.
const COUNT = 8192

const [port, numbers, isChecked] = process.argv.slice(2).map(Number)
const agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE })
let seen = newReport()

function newReport() {
  return { answers: 0, wrong: 0, lost: 0, versions: {} }
}

async function ask() {
  const from = Math.floor(Math.random() * (numbers - COUNT + 1))
  try {
    const request = http.get({ port, host: '127.0.0.1', agent, path: `/${from}/${COUNT}` })
    const [response] = await once(request, 'response')
    let text = ''
    for await (const chunk of response.setEncoding('utf8')) text += chunk
    seen.answers++
    if (!isChecked) return
    const { version, sum } = JSON.parse(text)
    if (BigInt(sum) !== sumOf(version, from, COUNT)) seen.wrong++
    seen.versions[version] = (seen.versions[version] ?? 0) + 1
  } catch {
    // Its worker was killed before it had answered. Another one gets the next.
    seen.lost++
  }
}

process.on('message', () => {
  process.send(seen)
  seen = newReport()
})
process.on('disconnect', () => process.exit())
process.send('started')
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (;;) await ask()
  })
)

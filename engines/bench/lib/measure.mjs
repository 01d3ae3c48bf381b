// Measures one case: each of its ways in processes of their own, in turns, so that what else the
// machine does hits all of them alike.

import { fork } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { finished } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'

const CHILD = fileURLToPath(new URL('child.mjs', import.meta.url))

/** A process for one way. `do(step)` resolves with what the step took and gave. */
class Child {
  #process
  #answer = withResolvers()

  constructor(url, way, dataset) {
    this.way = way
    this.#process = fork(CHILD, [url, way, dataset], {
      execArgv: ['--expose-gc'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc']
    })
    this.#process.on('message', ({ answer, error }) => {
      if (error === undefined) this.#answer.resolve(answer)
      else this.#answer.reject(new Error(`${way}: ${error}`))
    })
    this.#process.on('error', error => this.#answer.reject(error))
    this.#process.on('exit', (code, signal) =>
      this.#answer.reject(new Error(`${way}: the process ended with ${signal ?? `code ${code}`}`))
    )
    this.ready = this.#answer.promise
  }

  do(step) {
    this.#answer = withResolvers()
    this.#process.send(step)
    return this.#answer.promise
  }

  end() {
    this.#answer.promise.catch(() => {})
    this.#process.kill('SIGKILL')
  }
}

/** As Promise.withResolvers, which Node.js 20 does not have. */
function withResolvers() {
  const resolvers = {}
  resolvers.promise = new Promise((resolve, reject) =>
    Object.assign(resolvers, { resolve, reject })
  )
  return resolvers
}

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Reads a file into the page cache, so that no way waits for the disk. */
async function readThrough(path) {
  const stream = createReadStream(path, { highWaterMark: 2 ** 20 })
  await finished(stream.resume())
  return stream.bytesRead
}

/** Opens the dataset in a new process: `{ child, opened }`, where `opened` is what was measured. */
async function open(url, way, dataset) {
  const child = new Child(url, way, dataset)
  try {
    await child.ready
    const prepared = await child.do('prepare')
    const opened = await child.do('open')
    const answered = await child.do('answer')
    return { child, opened: { prepared, opened, answered } }
  } catch (error) {
    child.end()
    throw error
  }
}

/**
 * Measures a case. `scans` of the dataset come after a first one, each way's in turn; `rounds`
 * processes open it, each way's in turn. Gives a figure for each way, and whether all that any of
 * them answered was equal.
 */
export async function measureCase(url, { dataset, rounds, scans, onProgress = () => {} }) {
  const { ways } = await import(url)
  const names = Object.keys(ways)
  const byteLength = await readThrough(dataset)
  const runs = Object.fromEntries(names.map(name => [name, { opens: [], scans: [], results: [] }]))
  const total = rounds + 1 + scans
  let living = []
  try {
    for (let round = 0; round < rounds; round++) {
      const isLast = round === rounds - 1
      for (const name of inTurn(names, round)) {
        const { child, opened } = await open(url, name, dataset)
        runs[name].opens.push(opened)
        runs[name].results.push(opened.answered.result)
        if (isLast) living.push(child)
        else await close(child)
      }
      onProgress((round + 1) / total)
    }
    for (let scan = 0; scan <= scans; scan++) {
      for (const child of inTurn(living, scan)) {
        const { milliseconds, result } = await child.do('scan')
        runs[child.way].scans.push({ milliseconds, result })
      }
      onProgress((rounds + scan + 1) / total)
    }
    for (const child of living) {
      runs[child.way].scanned = await child.do('memory')
      // What scans have done to it changes no answer.
      runs[child.way].results.push((await child.do('answer')).result)
      await close(child)
    }
    living = []
  } finally {
    for (const child of living) child.end()
  }
  return { byteLength, ways: summarize(runs) }
}

async function close(child) {
  try {
    await child.do('close')
  } finally {
    child.end()
  }
}

const inTurn = (list, round) => (round % 2 === 0 ? list : list.toReversed())

/** The figures of each way, and whether its results are those of the first one. */
function summarize(runs) {
  const [first] = Object.values(runs)
  const reference = { answer: first.results[0], scan: first.scans[0].result }
  return Object.entries(runs).map(([name, { opens, scans, scanned, results }]) => ({
    name,
    readyMs: median(opens.map(({ opened }) => opened.milliseconds)),
    enginePss: median(opens.map(({ prepared }) => prepared.pss)),
    openPss: median(opens.map(({ opened }) => opened.pss)),
    // Of the process with the most beyond its engine and what it read of the dataset.
    extraPss: Math.max(
      ...opens.map(({ prepared, opened, answered }) =>
        Math.max(...[opened, answered].map(({ pss, read }) => pss - read - prepared.pss))
      )
    ),
    answeredPss: median(opens.map(({ answered }) => answered.pss)),
    answeredRead: median(opens.map(({ answered }) => answered.read)),
    scannedPss: scanned.pss,
    scannedRead: scanned.read,
    firstScanMs: scans[0].milliseconds,
    scanMs: median(scans.slice(1).map(({ milliseconds }) => milliseconds)),
    isEqual:
      results.every(result => isDeepStrictEqual(result, reference.answer)) &&
      scans.every(({ result }) => isDeepStrictEqual(result, reference.scan)),
    hasResults: [reference.answer, reference.scan].every(result => result !== undefined)
  }))
}

// Counts the words of a text of any size. Each worker gets a part of it and a module that reads
// that part through a small window.

import assert from 'node:assert/strict'
import { closeSync, createReadStream, readSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import Table from 'cli-table3'
import { HostRegion } from 'wasm-hostmap'
import * as cli from '../support/cli.mjs'
import { dataset } from '../support/dataset.mjs'
import { startProgress } from '../support/progress.mjs'
import { makeText } from '../support/text.mjs'

const usage = `Usage: node examples/word-count/index.mjs [FILE] [--size MIB] [--workers N] [--window KIB] [--check]

Counts the words of FILE, which may have any size, or of a text that is made on the first run.

  --size MIB      size of that text (default: 64)
  --workers N     worker threads (default: one per processor)
  --window KIB    window of each worker (default: 16384)
  --check         also counts in plain JavaScript, and compares`

async function main() {
  const { values, positionals } = cli.parseCommandLine(
    usage,
    {
      size: { type: 'string', default: '64' },
      workers: { type: 'string', default: String(availableParallelism()) },
      window: { type: 'string', default: '16384' },
      check: { type: 'boolean', default: false }
    },
    true
  )
  if (positionals.length > 1) throw new cli.UsageError(`takes one FILE, not ${positionals.length}`)
  const sizeMiB = cli.wholeNumber('--size', values.size, 1, 2 ** 20)
  const workers = cli.wholeNumber('--workers', values.workers, 1, 256)
  const windowBytes = cli.wholeNumber('--window', values.window, 128, 2 ** 20) * 1024
  const path = positionals[0] ?? (await dataset(`text-${sizeMiB}.txt`, makeText(sizeMiB * cli.MiB)))

  const region = HostRegion.open(path)
  try {
    const begin = performance.now()
    const parts = moveToWordBorders(region, region.split(workers))
    const words = await countInWorkers(region, parts, windowBytes)
    report(
      region,
      words,
      performance.now() - begin,
      `${parts.length} windows of ${cli.formatBytes(windowBytes)}`
    )
    if (values.check) {
      assert.deepEqual(
        words,
        await countInJavaScript(path, region.byteLength),
        'the counts differ from plain JavaScript'
      )
      console.log('The counts match plain JavaScript.')
    }
  } finally {
    region.close()
  }
}

/** Whether a byte belongs to a word, by the rule of words.c. */
const inWord = Array.from({ length: 256 }, (_, byte) =>
  /[A-Za-z0-9\x80-\xff]/.test(String.fromCharCode(byte))
)

/**
 * Moves borders between parts to the ends of words. Otherwise both halves of a word would count.
 */
function moveToWordBorders(region, parts) {
  const fd = region.duplicateFd()
  const ends = parts.map(({ byteOffset, byteLength }) =>
    wordBorder(fd, region.byteLength, byteOffset + byteLength)
  )
  closeSync(fd)
  return ends.map((end, i) => {
    const byteOffset = i === 0 ? 0 : ends[i - 1]
    return { byteOffset, byteLength: end - byteOffset }
  })
}

/** The first offset from here on that is not inside a word. */
function wordBorder(fd, byteLength, byteOffset) {
  const bytes = Buffer.alloc(64 * 1024)
  for (let start = byteOffset - 1; ; start += bytes.length) {
    const read = readSync(fd, bytes, 0, bytes.length, start)
    const end = bytes.subarray(0, read).findIndex(byte => !inWord[byte])
    if (end >= 0) return Math.max(start + end, byteOffset)
    if (start + read >= byteLength || read === 0) return byteLength
  }
}

/** Counts each word. Keys are the word's bytes as a latin1 string. */
async function countInWorkers(region, parts, windowBytes) {
  const progress = startProgress(`counting the words of ${region.name}`)
  const done = parts.map(() => 0)
  const workers = parts.map(part => {
    const workerData = { token: region.share({ access: 'readonly' }), windowBytes, part }
    return new Worker(new URL('worker.mjs', import.meta.url), { workerData })
  })
  const tableOf = (worker, i) =>
    new Promise((resolve, reject) => {
      worker.on('error', reject)
      worker.on('message', ({ doneBytes, words }) => {
        if (words) return resolve(words)
        done[i] = doneBytes
        progress.update(done.reduce((sum, bytes) => sum + bytes) / region.byteLength)
      })
    })
  try {
    const words = new Map()
    for (const table of await Promise.all(workers.map(tableOf))) {
      for (const [word, count] of table) words.set(word, (words.get(word) ?? 0) + count)
    }
    return words
  } finally {
    progress.stop()
    // If one failed, stop the others.
    await Promise.all(workers.map(worker => worker.terminate()))
  }
}

async function countInJavaScript(path, byteLength) {
  const progress = startProgress('counting in plain JavaScript')
  const words = new Map()
  const add = word => words.set(word, (words.get(word) ?? 0) + 1)
  let unfinished = ''
  let doneBytes = 0
  try {
    for await (const bytes of createReadStream(path, { highWaterMark: cli.MiB })) {
      for (let i = 0; i < bytes.length; i++)
        if (bytes[i] >= 0x41 && bytes[i] <= 0x5a) bytes[i] |= 0x20
      const found = (unfinished + bytes.toString('latin1')).split(/[^a-z0-9\x80-\xff]+/)
      unfinished = found.pop()
      found.filter(word => word !== '').forEach(add)
      doneBytes += bytes.length
      progress.update(doneBytes / byteLength)
    }
    if (unfinished !== '') add(unfinished)
    return words
  } finally {
    progress.stop()
  }
}

function report(region, words, milliseconds, means) {
  const table = new Table({
    head: ['word', 'count'],
    colAligns: ['left', 'right'],
    style: { head: [], border: [] }
  })
  const frequent = [...words].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).slice(0, 5)
  for (const [word, count] of frequent) {
    table.push([Buffer.from(word, 'latin1').toString(), cli.formatCount(count)])
  }
  const total = [...words.values()].reduce((sum, count) => sum + count, 0)
  console.log(`The most frequent words of ${region.name}:\n${table}`)
  console.log(
    `${cli.formatCount(total)} words, ${cli.formatCount(words.size)} distinct, in ${cli.formatBytes(region.byteLength)}: ` +
      `${cli.formatMilliseconds(milliseconds)} through ${means}.`
  )
}

await cli.run(main)

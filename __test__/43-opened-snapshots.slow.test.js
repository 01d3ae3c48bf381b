'use strict'

// Opened snapshots: what takes long, or may end a process.

const fs = require('node:fs')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { GuardedMemory } = require('..')
const { directoryWithLeases, temporaryDirectory, noise } = require('./support/files')
const { inChild } = require('./support/child')
const { pssOf } = require('./support/opened')
const { MiB } = require('./support/wasm')

const directory = temporaryDirectory({ parent: directoryWithLeases() })

async function saved(byteLength) {
  const guarded = new GuardedMemory({ initial: byteLength / 65536 })
  const bytes = Buffer.from(guarded.buffer)
  const part = noise(MiB)
  for (let at = 0; at < byteLength; at += MiB) part.copy(bytes, at)
  const file = directory.file(undefined, `${byteLength}.snapshot`)
  const snapshot = guarded.snapshot({ hugePages: false })
  await snapshot.save(file)
  snapshot.close()
  return file
}

describe('512 MiB', () => {
  let file
  beforeAll(async () => void (file = await saved(512 * MiB)), 120_000)
  afterAll(() => fs.unlinkSync(file))

  test('six processes share the pages of one file', async () => {
    const { one, six, written } = await pssOf(file, 6)
    expect(one).toBeGreaterThanOrEqual(512 * MiB)
    expect(six - 6 * written).toBeLessThan(1.2 * one)
  }, 120_000)

  test('to open it reads next to nothing of it', async () => {
    const read = await inChild(
      async ({ hostmap, require, args }) => {
        const bytesRead = () =>
          Number(/rchar: (\d+)/.exec(require('node:fs').readFileSync('/proc/self/io', 'latin1'))[1])
        ;(await hostmap.Snapshot.open(args)).close()
        const before = bytesRead()
        const snapshot = await hostmap.Snapshot.open(args)
        const guarded = new hostmap.GuardedMemory({ initial: 1 })
        guarded.restore(snapshot)
        return bytesRead() - before
      },
      { args: file }
    )
    expect(read).toBeLessThan(MiB)
  })
})

test('a thread that never answers loses nothing that it writes, and sees nothing foreign', async () => {
  const file = await saved(4 * MiB)
  const before = fs.readFileSync(file)
  const child = inChild(
    async ({ hostmap, require, args }) => {
      const snapshot = await hostmap.Snapshot.open(args.file)
      const guarded = new hostmap.GuardedMemory({ initial: 64 })
      guarded.restore(snapshot)
      const bytes = Buffer.from(guarded.buffer)
      const fs = require('node:fs')
      fs.writeFileSync(args.ready, '')
      // Until the writer is done, without a turn of the event loop: a count in each page, of which
      // each is one more than the one before.
      let count = 0
      do {
        for (let round = 0; round < 100; round++) {
          count++
          for (let at = 4092; at < bytes.length; at += 4096) {
            if (count > 1 && bytes.readUInt32LE(at) !== count - 1) return [at, count]
            bytes.writeUInt32LE(count, at)
          }
        }
      } while (!fs.existsSync(args.done))
      const there = bytes.toString('latin1')
      await new Promise(resolve => setTimeout(resolve, 100))
      guarded.restore(snapshot)
      return [there, bytes.toString('latin1'), snapshot.residentBytes, count]
    },
    {
      args: {
        file,
        ready: directory.file(undefined, 'ready'),
        done: directory.file(undefined, 'done')
      }
    }
  )
  while (!fs.existsSync(`${directory.path}/ready`)) await new Promise(go => setTimeout(go, 20))
  const script = 'tr "\\0" z </dev/zero | head -c 6291456 > "$0"; : > "$1"'
  const writer = spawn('/bin/sh', ['-c', script, file, `${directory.path}/done`])
  await once(writer, 'exit')
  expect(fs.readFileSync(file).equals(before)).toBe(false)
  const [there, restored, residentBytes, count] = await child
  const expected = Buffer.concat(Array.from({ length: 4 }, () => noise(MiB)))
  expect(Buffer.from(restored, 'latin1').equals(expected)).toBe(true)
  for (let at = 4092; at < expected.length; at += 4096) expected.writeUInt32LE(count, at)
  expect(Buffer.from(there, 'latin1').equals(expected)).toBe(true)
  expect(residentBytes).toBeGreaterThanOrEqual(4 * MiB)
}, 120_000)

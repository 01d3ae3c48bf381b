'use strict'

// A provider's module for tests: the bytes of `bytesFrom`, and what `data` asks for beside.

const { setTimeout: sleep } = require('node:timers/promises')
const { parentPort } = require('node:worker_threads')
const { bytesFrom } = require('./ranges')

const toThrow = error => {
  throw error
}

function fill(byteOffset, target) {
  target.set(bytesFrom(byteOffset, target.length))
  return target.length
}

/**
 * `mode` from the call `from` on: what goes wrong. `failEvery`: each so many calls fail. `delayMs`:
 * how long each takes. `counts`: an Int32Array over shared memory, whose first word counts calls.
 */
module.exports = function open(data = {}) {
  const { byteLength = 4 * 2 ** 20, version, mode, from = 0, failEvery, delayMs, counts } = data
  if (mode === 'throws-at-open') throw new Error('no data today')
  if (mode === 'rejects-at-open') return Promise.reject(new Error('no data today'))
  if (mode === 'never-opens') return new Promise(() => {})
  if (mode === 'no-read') return {}
  if (mode === 'no-object') return undefined
  if (mode === 'exits-at-open') process.exit(0)
  if (mode === 'wrong-length') return { byteLength: -1, read: fill }
  if (mode === 'wrong-version') return { byteLength, version: 7, read: fill }
  let calls = 0
  let kept
  const modes = {
    throws() {
      throw new Error('the disk is on fire')
    },
    'rejects-nothing': () => Promise.reject(),
    'rejects-late': () => sleep(20).then(() => Promise.reject(new Error('the disk is on fire'))),
    'too-little': (byteOffset, target) => fill(byteOffset, target) - 1,
    'too-much': (byteOffset, target) => fill(byteOffset, target) + 1,
    nothing: () => undefined,
    text: (_, target) => String(target.length),
    'not-a-number': () => NaN,
    never: () => new Promise(() => {}),
    endless() {
      for (;;);
    },
    exits: () => process.exit(0),
    crashes() {
      setImmediate(() => {
        throw new Error('nobody catches this')
      })
      return new Promise(() => {})
    },
    'throws-odd'() {
      const error = new Proxy({}, { get: () => toThrow(error) })
      throw error
    },
    'throws-ours'() {
      throw Object.assign(new Error('the disk is on fire'), { code: 'ERR_HOSTMAP_REGION_CLOSED' })
    },
    // As libraries do that find themselves in a worker thread.
    'uses-port'(byteOffset, target) {
      parentPort.postMessage(null)
      parentPort.postMessage({ type: 'done', id: 1 })
      parentPort.close()
      return fill(byteOffset, target)
    },
    // Writes to the space of an earlier call while others are under way.
    async 'keeps-target'(byteOffset, target) {
      kept ??= target
      const count = fill(byteOffset, target)
      await sleep(1)
      if (kept !== target) for (let i = 0; i < count; i++) kept[i] = 99
      return count
    },
    transfers(byteOffset, target) {
      const { length } = target
      structuredClone(target.buffer, { transfer: [target.buffer] })
      return length
    },
    // Shared memory in which the region is mapped by now.
    'touches-itself'(byteOffset, target) {
      const memory = new Uint8Array(data.memory.buffer)
      const { at } = data
      Atomics.store(counts, 1, memory[at] + 1)
      return fill(byteOffset, target)
    },
    logs(byteOffset, target) {
      for (let i = 0; i < 100; i++) console.error('provider', byteOffset, i)
      console.error('provider')
      return fill(byteOffset, target)
    },
    'uses-env'(byteOffset, target) {
      process.env.PAGED_PROVIDER = String(byteOffset)
      return fill(byteOffset, target)
    },
    async imports(byteOffset, target) {
      await import('node:zlib')
      await import(`data:text/javascript,export default ${byteOffset}`)
      return fill(byteOffset, target)
    }
  }
  return {
    byteLength: data.silent ? undefined : byteLength,
    version,
    read(byteOffset, target, { signal }) {
      const call = calls++
      if (counts !== undefined) Atomics.add(counts, 0, 1)
      if (failEvery !== undefined && call % failEvery === failEvery - 1) {
        throw new Error(`call ${call} fails`)
      }
      if (mode !== undefined && call >= from) return modes[mode](byteOffset, target, signal)
      if (delayMs === undefined) return fill(byteOffset, target)
      return sleep(delayMs, undefined, { signal }).then(() => fill(byteOffset, target))
    }
  }
}

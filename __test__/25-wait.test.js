'use strict'

// region.wait() and region.notify(): a queue between modules, threads and processes needs them,
// since V8's own waiters are those of one memory.

const { spawn } = require('node:child_process')
const path = require('node:path')
const { Worker } = require('node:worker_threads')
const { GuardedMemory, HostRegion, limits } = require('..')
const { inChild } = require('./support/child')
const { expectError, thrownBy } = require('./support/errors')
const { temporaryDirectory } = require('./support/files')
const { probeWithMemory } = require('./support/wasm')

const MAIN = path.join(__dirname, '..')
const PAGE = limits().pageSize
const directory = temporaryDirectory()

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

/** Notifies until somebody was woken. */
async function wakeOne(region, byteOffset) {
  for (;;) {
    const woken = region.notify(byteOffset, 1)
    if (woken > 0) return woken
    await new Promise(resolve => setImmediate(resolve))
  }
}

const messageOf = worker =>
  new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))

/** A worker that opens the file and does this with its region. */
const workerWith = (file, body) =>
  new Worker(
    `const { parentPort } = require('node:worker_threads')
    const { HostRegion, GuardedMemory } = require(${JSON.stringify(MAIN)})
    const region = HostRegion.open(${JSON.stringify(file)}, { writable: true })
    ;(${body})(region, parentPort)`,
    { eval: true }
  )

const sharedFile = () => directory.file(Buffer.alloc(2 * PAGE))

describe('region.wait()', () => {
  test('is woken by notify(), and says so', async () => {
    const region = keep(HostRegion.allocate(2 * PAGE))
    const wait = region.wait(PAGE + 8, 0)
    await wakeOne(region, PAGE + 8)
    expect(await wait).toBe('ok')
  })

  test('does not wait where the word is another one already, signs aside', async () => {
    const region = keep(HostRegion.allocate(100))
    new Int32Array(region.view())[1] = -5
    expect(await region.wait(4, 0)).toBe('not-equal')
    expect(await region.wait(4, -5, { timeoutMs: 1 })).toBe('timed-out')
    expect(await region.wait(4, 2 ** 32 - 5, { timeoutMs: 0 })).toBe('timed-out')
  })

  test('wakes as many as asked for, of those who wait for this word', async () => {
    const region = keep(HostRegion.allocate(100))
    const waits = [0, 0, 0, 4].map(offset => region.wait(offset, 0))
    let woken = 0
    for (let most; woken < 3;) {
      most = region.notify(0, 1)
      expect(most).toBeLessThanOrEqual(1)
      woken += most
      await new Promise(resolve => setImmediate(resolve))
    }
    expect(await Promise.all(waits.slice(0, 3))).toEqual(['ok', 'ok', 'ok'])
    expect(region.notify(0)).toBe(0)
    await wakeOne(region, 4)
    expect(await waits[3]).toBe('ok')
  })

  test('goes on when nobody is to be woken', async () => {
    const region = keep(HostRegion.allocate(100))
    const wait = region.wait(0, 0)
    let woken = 0
    while (woken === 0) {
      expect(region.notify(0, 0)).toBe(0)
      await new Promise(resolve => setImmediate(resolve))
      woken = region.notify(0, 1)
    }
    expect(await wait).toBe('ok')
  })

  test('rejects with what a signal of the caller throws', async () => {
    const region = keep(HostRegion.allocate(100))
    const thrown = new Error('of the signal')
    const throws = () => {
      throw thrown
    }
    for (const broken of ['addEventListener', 'removeEventListener']) {
      const signal = {
        aborted: false,
        addEventListener() {},
        removeEventListener() {},
        [broken]: throws
      }
      await expect(region.wait(0, 0, { timeoutMs: 1, signal })).rejects.toBe(thrown)
    }
  })

  test('is ended by a signal', async () => {
    const region = keep(HostRegion.allocate(100))
    const controller = new AbortController()
    const wait = region.wait(0, 0, { signal: controller.signal })
    controller.abort()
    await expect(wait).rejects.toMatchObject({ name: 'AbortError', code: 'ABORT_ERR' })
    await expect(region.wait(0, 0, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORT_ERR'
    })
    expect(region.notify(0)).toBe(0)
  })

  test('goes on when its region is closed', async () => {
    const file = sharedFile()
    const [mine, other] = [0, 1].map(() => keep(HostRegion.open(file, { writable: true })))
    const wait = mine.wait(0, 0)
    mine.close()
    await wakeOne(other, 0)
    expect(await wait).toBe('ok')
  })

  test('is woken through regions that are read-only or sealed, which know the word by its file', async () => {
    const file = sharedFile()
    const [reader, writer] = [false, true].map(writable =>
      keep(HostRegion.open(file, { writable }))
    )
    const wait = reader.wait(8, 0)
    await wakeOne(writer, 8)
    expect(await wait).toBe('ok')
    const sealed = keep(HostRegion.allocate(100)).seal()
    expect(await sealed.wait(0, 0, { timeoutMs: 1 })).toBe('timed-out')
  })

  test('of a word whose file was truncated is an error', async () => {
    const file = sharedFile()
    const region = keep(HostRegion.open(file, { writable: true }))
    require('node:fs').truncateSync(file, 0)
    for (const call of [() => region.wait(0, 0), () => region.notify(0)]) {
      expectError(await thrownBy(call), { code: 'ERR_HOSTMAP_FILE_SHRUNK', errno: -14 })
    }
  })
})

describe('a queue', () => {
  test('between a module and a worker over another memory: a store of the one wakes the other', async () => {
    const file = sharedFile()
    const region = keep(HostRegion.open(file, { writable: true }))
    const guest = await probeWithMemory({ initial: 4 })
    const mapping = GuardedMemory.from(guest.memory).map(region, { at: 65536, access: 'shared' })
    const worker = workerWith(file, (region, parentPort) => {
      const guarded = new GuardedMemory({ initial: 1 })
      guarded.map(region, { at: 0, access: 'shared' })
      const ended = region.waitSync(0, 0)
      parentPort.postMessage([ended, new Uint32Array(guarded.buffer)[0]])
    })
    const seen = messageOf(worker)
    guest.touch('store32', mapping.address, 42)
    // It may not have begun to wait yet: then it finds the word changed.
    region.notify(0)
    const [ended, word] = await seen
    expect(['ok', 'not-equal']).toContain(ended)
    expect(word).toBe(42)
  })

  test('between processes', async () => {
    const file = sharedFile()
    const region = keep(HostRegion.open(file, { writable: true }))
    const child = spawn(process.execPath, [
      '-e',
      `const { HostRegion } = require(${JSON.stringify(MAIN)})
      HostRegion.open(${JSON.stringify(file)}).wait(4, 0).then(ended => console.log(ended))`
    ])
    const said = new Promise(resolve =>
      child.stdout.once('data', data => resolve(String(data).trim()))
    )
    const exited = new Promise(resolve => child.once('exit', resolve))
    expect(await wakeOne(region, 4)).toBe(1)
    expect(await said).toBe('ok')
    // A wait that is over keeps no process alive.
    expect(await exited).toBe(0)
  })
})

describe('region.waitSync()', () => {
  test('waits in a worker without end, until it is notified', async () => {
    const file = sharedFile()
    const region = keep(HostRegion.open(file, { writable: true }))
    const worker = workerWith(file, (region, parentPort) =>
      parentPort.postMessage(region.waitSync(4, 0))
    )
    const seen = messageOf(worker)
    await wakeOne(region, 4)
    expect(await seen).toBe('ok')
  })

  test('needs a timeout on the main thread', async () => {
    const seen = await inChild(({ hostmap }) => {
      const region = hostmap.HostRegion.allocate(100)
      let code
      try {
        region.waitSync(0, 0)
      } catch (error) {
        code = error.code
      }
      const ends = [
        [0, 1],
        [1, 1],
        [0, 120]
      ].map(([expected, timeoutMs]) => region.waitSync(0, expected, { timeoutMs }))
      return [code, ...ends]
    })
    expect(seen).toEqual(['ERR_INVALID_ARG_VALUE', 'timed-out', 'not-equal', 'timed-out'])
  })
})

describe('threads and processes that end while they wait', () => {
  test.each(['wait', 'waitSync'])('a worker can be terminated in %s', async method => {
    const file = sharedFile()
    const region = keep(HostRegion.open(file, { writable: true }))
    const worker = workerWith(
      file,
      `(region, parentPort) => {
        parentPort.postMessage('begins')
        region.${method}(0, 0)
      }`
    )
    await messageOf(worker)
    await worker.terminate()
    // Its thread is gone, or about to.
    while (region.notify(0) > 0) await new Promise(resolve => setImmediate(resolve))
  })

  test('process.exit() does not wait for them', async () => {
    const child = spawn(process.execPath, [
      '-e',
      `const region = require(${JSON.stringify(MAIN)}).HostRegion.allocate(100)
      for (let i = 0; i < 10; i++) region.wait(0, 0)
      setImmediate(() => process.exit(7))`
    ])
    expect(await new Promise(resolve => child.once('exit', resolve))).toBe(7)
  })
})

test('what is no word, no value or no count is refused', async () => {
  const region = keep(HostRegion.allocate(100))
  const wrong = [
    [-4, 'ERR_OUT_OF_RANGE'],
    [2, 'ERR_OUT_OF_RANGE'],
    [100, 'ERR_OUT_OF_RANGE'],
    [98, 'ERR_OUT_OF_RANGE'],
    [0.5, 'ERR_OUT_OF_RANGE'],
    ['0', 'ERR_INVALID_ARG_TYPE'],
    [undefined, 'ERR_INVALID_ARG_TYPE']
  ]
  for (const [offset, code] of wrong) {
    for (const call of [
      () => region.wait(offset, 0),
      () => region.waitSync(offset, 0),
      () => region.notify(offset)
    ]) {
      expectError(await thrownBy(call), { code, says: /byteOffset/ })
    }
  }
  for (const [expected, code] of [
    [2 ** 32, 'ERR_OUT_OF_RANGE'],
    [1n, 'ERR_INVALID_ARG_TYPE'],
    [undefined, 'ERR_INVALID_ARG_TYPE']
  ]) {
    expectError(await thrownBy(() => region.wait(0, expected)), { code, says: /expected/ })
  }
  for (const [timeoutMs, code] of [
    [-1, 'ERR_OUT_OF_RANGE'],
    [NaN, 'ERR_OUT_OF_RANGE'],
    ['1', 'ERR_INVALID_ARG_TYPE']
  ]) {
    expectError(await thrownBy(() => region.wait(0, 0, { timeoutMs })), { code, says: /timeoutMs/ })
  }
  expectError(await thrownBy(() => region.wait(0, 0, { timeout: 1 })), {
    code: 'ERR_INVALID_ARG_VALUE'
  })
  expectError(await thrownBy(() => region.notify(0, -1)), {
    code: 'ERR_OUT_OF_RANGE',
    says: /count/
  })
  expectError(await thrownBy(() => region.waitSync(96, 1, { signal: AbortSignal.abort() })), {
    code: 'ERR_INVALID_ARG_VALUE'
  })
  expect(region.notify(96, 0)).toBe(0)
  region.close()
  for (const call of [
    () => region.wait(0, 0),
    () => region.waitSync(0, 0),
    () => region.notify(0)
  ]) {
    expectError(await thrownBy(call), { code: 'ERR_HOSTMAP_REGION_CLOSED' })
  }
})

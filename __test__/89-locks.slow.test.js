'use strict'

// Eight workers map, unmap, slide, restore, lend instances and meet faults at once, each in a
// memory of its own, in a build that tells which locks a call takes. `npm run test:locks` counts
// the same in the core, where the order of threads is simulated too.

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { build, hasCargo, inChild } = require('./support/injected')
const { skipUnless } = require('./support/skip')

skipUnless('needs Cargo', hasCargo).describe('eight workers, each with its own memory', () => {
  beforeAll(() => void build(), 600_000)

  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-locks-'))
  afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

  /** What they did: of each worker, by the name of a call, what it took and called each time. */
  let all
  beforeAll(() => {
    const file = path.join(folder, 'data')
    fs.writeFileSync(file, Buffer.alloc(4 * 65536, 1))
    process.env.LOCKED_FILE = file
    process.env.LOCK_WORKER = path.join(__dirname, 'support/lock-worker.js')
    all = inChild(async () => {
      const { once } = require('node:events')
      const { Worker } = require('node:worker_threads')
      const threads = 8
      const workerData = {
        threads,
        ROUNDS: 12,
        WASM_PAGE: 65536,
        file: process.env.LOCKED_FILE,
        barrier: new SharedArrayBuffer(8)
      }
      const workers = Array.from(
        { length: threads },
        () => new Worker(process.env.LOCK_WORKER, { workerData, execArgv: ['--no-warnings'] })
      )
      return Promise.all(workers.map(async worker => (await once(worker, 'message'))[0]))
    })
  }, 300_000)

  /** By which workers each lock was ever taken. */
  const takers = () => {
    const found = new Map()
    all.forEach((did, worker) => {
      for (const event of Object.values(did).flat(2)) {
        if (!event.startsWith('Takes ')) continue
        const name = event.slice('Takes '.length)
        found.set(name, (found.get(name) ?? new Set()).add(worker))
      }
    })
    return found
  }

  test('no call takes a lock that another thread takes, but to leave a fault for its report', () => {
    const by = takers()
    const shared = new Set()
    const taken = {}
    for (const did of all) {
      for (const [name, times] of Object.entries(did)) {
        expect(times).toHaveLength(10)
        for (const events of times) {
          const locks = events.filter(event => event.startsWith('Takes ')).map(it => it.slice(6))
          taken[name] ??= [...new Set(locks.map(lock => lock.split(' ')[0]))]
          for (const lock of locks)
            if (by.get(lock).size > 1) shared.add(`${name}: ${lock.split(' ')[0]}`)
        }
      }
    }
    expect([...shared]).toEqual(['unmap, after a fault: FaultsLeft'])
    // It would show them.
    expect(by.size).toBeGreaterThan(8 * 4)
    expect(taken).toMatchObject({
      map: ['Memory', 'FaultRegistry'],
      unmap: ['Memory', 'FaultRegistry'],
      'slide, memfd': ['Memory', 'Mirror', 'RangeName'],
      'slide, file': ['Memory', 'Mirror', 'RangeName'],
      'restore, clean': ['Memory'],
      'restore, 32 dirty pages': ['Memory'],
      acquire: [],
      release: ['Memory'],
      'stray write': []
    })
  })

  test('what threads share is held during no system call', () => {
    const by = takers()
    for (const events of all.flatMap(did => Object.values(did).flat())) {
      const held = new Set()
      for (const event of events) {
        const [did, ...rest] = event.split(' ')
        const what = rest.join(' ')
        if (did === 'Takes') held.add(what)
        else if (did === 'Frees') held.delete(what)
        else if (what !== 'hole')
          expect([...held].filter(lock => by.get(lock).size > 1)).toEqual([])
      }
      expect(held.size).toBe(0)
    }
  })
})

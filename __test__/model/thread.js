'use strict'

// A worker that has the shared memories too. It does one thing at a time, when it is told, so that
// the model, which knows one order of events only, holds for both threads.

const { Worker, isMainThread, parentPort } = require('node:worker_threads')
const { makeGuest, perform } = require('./accesses')

class Thread {
  #worker
  #answers = []
  #exit

  constructor() {
    this.#worker = new Worker(__filename)
    this.#exit = new Promise(resolve => this.#worker.once('exit', resolve))
    this.#worker.on('message', answer => this.#answers.shift().resolve(answer))
    this.#worker.on('error', error =>
      this.#answers.splice(0).forEach(({ reject }) => reject(error))
    )
    this.#worker.unref()
  }

  /** What the command gives, or `{ error }`. */
  do(command, args) {
    this.#worker.ref()
    this.#worker.postMessage({ command, args })
    return new Promise((resolve, reject) => this.#answers.push({ resolve, reject })).finally(() =>
      this.#worker.unref()
    )
  }

  async end() {
    this.#worker.ref()
    await this.#worker.terminate()
    await this.#exit
  }
}

function serve() {
  const { HostRegion, GuardedMemory } = require('../..')
  const memories = new Map()

  const commands = {
    async attach({ id, memory, type }) {
      const guest = await makeGuest(type, memory)
      memories.set(id, { guest, guarded: GuardedMemory.from(memory), mappings: new Map() })
    },
    forget({ id }) {
      memories.delete(id)
    },
    reset() {
      memories.clear()
    },
    map({ id, mapping, fd, part, close, options }) {
      const { guarded, mappings } = memories.get(id)
      const region = HostRegion.fromFd(fd, part)
      try {
        const made = guarded.map(region, options)
        mappings.set(mapping, made)
        return { address: made.address }
      } finally {
        if (close) region.close()
      }
    },
    unmap({ id, mapping }) {
      memories.get(id).mappings.get(mapping).unmap()
    },
    grow({ id, wasmPages }) {
      return { was: memories.get(id).guarded.grow(wasmPages) }
    },
    guestGrow({ id, wasmPages }) {
      return { was: memories.get(id).guest.grow(wasmPages) }
    },
    from({ id }) {
      const { guest, guarded } = memories.get(id)
      return { same: GuardedMemory.from(guest.memory) === guarded, byteLength: guarded.byteLength }
    },
    access({ id, access }) {
      return perform(memories.get(id).guest, access)
    },
    layout({ id }) {
      const { ranges } = memories.get(id).guarded.layout()
      return { ranges: ranges.map(range => ({ ...range, region: range.region !== null })) }
    },
    counts({ id }) {
      const { mappings } = memories.get(id)
      return Array.from(mappings, ([mapping, { strayWrites, faults, lastFault }]) => {
        return { mapping, strayWrites, faults, lastFault }
      })
    },
    async collect() {
      globalThis.gc?.()
      await new Promise(resolve => setImmediate(resolve))
    }
  }

  parentPort.on('message', async ({ command, args }) => {
    try {
      parentPort.postMessage((await commands[command](args)) ?? {})
    } catch ({ name, code, errno, syscall, message, stack }) {
      parentPort.postMessage({ error: { name, code, errno, syscall, message, stack } })
    }
  })
}

if (isMainThread) module.exports = { Thread }
else serve()

// A module in a process of its own: limited in memory and in time, and made anew when it ends.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { Asker } from './ring.mjs'

const WORKER = fileURLToPath(new URL('worker.mjs', import.meta.url))
const WASM_PAGE_BYTES = 65536
// What V8 and Node.js themselves may write to.
const NODE_BYTES = 512 * 2 ** 20

/** A call that has no result: the module trapped, ended its process, or took too long. */
export class CallError extends Error {}

/**
 * Starts a process. `ulimit -d` bounds what it can write to, whatever runs in it. The dataset
 * counts, too: V8 makes all of a memory writable while it grows.
 */
function startProcess(data, writableBytes) {
  const kibibytes = Math.ceil((NODE_BYTES + writableBytes) / 1024)
  const node = [process.execPath, '--max-old-space-size=64', WORKER]
  const script = 'ulimit -d "$1" && shift && exec "$@"'
  const child = spawn('/bin/sh', ['-c', script, 'sh', kibibytes, ...node], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: {} // ours is not its business
  })
  child.send(data)
  return child
}

/**
 * Starts worker.mjs over a dataset, which it can't write to.
 * @param options as of `Isolated.start`; `takesMessages`: it takes messages, and not from the ring
 */
export function startWorker(dataset, ring, { isThread, moduleBytes, takesMessages }) {
  const data = {
    ringToken: ring.region.share(),
    datasetToken: dataset.share({ access: 'readonly', enforce: true }),
    maximumWasmPages: Math.ceil((dataset.byteLength + moduleBytes) / WASM_PAGE_BYTES) + 2,
    takesMessages
  }
  return isThread
    ? new Worker(WORKER, { workerData: data })
    : startProcess(data, dataset.byteLength + moduleBytes)
}

export class Isolated {
  #dataset
  #options
  #calls = [] // the first of them are in the ring
  #inRing = 0
  #ring // undefined while there is no worker
  #watched // the ring whose answers are waited for
  #worker
  #end // a signal: the worker has ended
  #why // it was ended by us
  #timer
  #isClosed = false

  constructor(dataset, options) {
    this.#dataset = dataset
    this.#options = options
  }

  /**
   * @param dataset a region, which the module can read
   * @param options `milliseconds`: the most that a call may take; `moduleBytes`: the most memory
   *   that the module may have, besides the dataset; `isThread`: in a thread of this process
   *   instead, whose memory the system does not limit
   */
  static async start(dataset, options) {
    const isolated = new Isolated(dataset, options)
    await isolated.#startWorker()
    return isolated
  }

  async #startWorker() {
    const ring = new Asker()
    const worker = startWorker(this.#dataset, ring, this.#options)
    const end = new AbortController()
    worker.on('error', () => {}) // an exit follows
    worker.once('exit', (code, signal) => end.abort(`it ended: ${signal ?? code}`))
    await Promise.race([once(worker, 'message'), once(end.signal, 'abort')])
    if (end.signal.aborted) throw new CallError(end.signal.reason)
    end.signal.addEventListener('abort', () => this.#onEnd(ring, end.signal.reason))
    this.#ring = ring
    this.#worker = worker
    this.#end = end.signal
    this.#why = undefined
    if (this.#isClosed) this.#kill('it was closed')
    else this.#submit()
  }

  /** Calls the module: `{ operation, from, count }`. Resolves with its result, a BigInt. */
  call(request) {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(new CallError('it was closed'))
      this.#calls.push({ request, resolve, reject })
      this.#submit()
    })
  }

  /** The same, but blocks the thread. Not beside other calls. */
  callSync(request) {
    const { milliseconds } = this.#options
    if (this.#ring === undefined || this.#calls.length > 0) throw new CallError('it is busy')
    this.#ring.submit(request)
    const deadline = performance.now() + milliseconds
    while (!this.#ring.hasAnswer) {
      const left = deadline - performance.now()
      if (left > 0) this.#ring.blockUntilAnswer(left)
      else {
        const why = `it took more than ${milliseconds} ms`
        this.#kill(why)
        throw new CallError(why)
      }
    }
    const [result] = this.#ring.answers()
    if (result === undefined) throw new CallError('it trapped')
    return result
  }

  close() {
    this.#isClosed = true
    if (this.#ring !== undefined) this.#kill('it was closed')
  }

  #kill(why) {
    this.#why = why
    this.#ring = undefined
    if (this.#options.isThread) void this.#worker.terminate()
    else this.#worker.kill('SIGKILL')
  }

  #submit() {
    const ring = this.#ring
    if (ring === undefined) return
    for (; this.#inRing < this.#calls.length && ring.hasRoom; this.#inRing++) {
      ring.submit(this.#calls[this.#inRing].request)
    }
    if (this.#inRing > 0 && this.#timer === undefined) this.#limitFirst()
    void this.#watch(ring)
  }

  /** The first call is the one that runs. */
  #limitFirst() {
    const { milliseconds } = this.#options
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#inRing === 0) return
    const why = `it took more than ${milliseconds} ms`
    this.#timer = setTimeout(() => this.#kill(why), milliseconds)
  }

  #settleFirst({ result, error }) {
    const { resolve, reject } = this.#calls.shift()
    this.#inRing--
    if (error === undefined) resolve(result)
    else reject(new CallError(error))
  }

  /** Takes what was answered. */
  #take(ring) {
    let taken = 0
    for (const result of ring.answers()) {
      this.#settleFirst(result === undefined ? { error: 'it trapped' } : { result })
      taken++
    }
    if (taken > 0) this.#limitFirst()
  }

  async #watch(ring) {
    if (this.#watched === ring) return
    this.#watched = ring
    try {
      while (this.#ring === ring && this.#inRing > 0) {
        this.#take(ring)
        this.#submit()
        if (this.#inRing > 0) await ring.untilAnswer(this.#end)
      }
    } catch (error) {
      // Aborted by its end, or it has counted what can't be.
      if (this.#ring === ring && !this.#end.aborted) this.#kill(error.message)
    } finally {
      if (this.#watched === ring) this.#watched = undefined
    }
  }

  /** The call that ran has failed. Those behind it go to the next worker. */
  async #onEnd(ring, how) {
    const why = this.#why ?? how
    this.#ring = undefined
    try {
      this.#take(ring)
    } catch {
      // What it counted at last can't be.
    }
    clearTimeout(this.#timer)
    this.#timer = undefined
    ring.region.close()
    if (this.#inRing > 0) this.#settleFirst({ error: why })
    this.#inRing = 0
    let error = 'it was closed'
    try {
      if (!this.#isClosed) return await this.#startWorker()
    } catch (failed) {
      error = failed.message
    }
    for (const { reject } of this.#calls.splice(0)) reject(new CallError(error))
  }
}

// A seat is where a module runs: in this thread, or in its own worker.
//
//   receive(data)   takes the way's data and makes the module ready
//   scan()          runs the module over all bytes and returns the bytes of its report
//   draw(colors)    returns a drawing of its memory, if the way has one
import { once } from 'node:events'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { instantiate } from './program.mjs'
import { ways } from './ways.mjs'

export class SeatHere {
  #way
  #program
  #onProgress
  #byteLength
  #placed
  #scan

  constructor(wayName, program, onProgress) {
    this.#way = ways[wayName]
    this.#program = program
    this.#onProgress = onProgress
  }

  async receive(data) {
    this.#byteLength = data.byteLength
    this.#placed = this.#way.place(data, this.#onProgress)
    this.#scan = instantiate(this.#program, this.#placed.memory)
  }

  async scan() {
    const report = this.#scan(this.#placed.pointer, this.#byteLength)
    this.#onProgress('scanning', this.#byteLength)
    return report
  }

  async draw(colors) {
    return this.#placed.draw?.(colors)
  }
}

export class SeatInWorker {
  #way
  #worker
  #onProgress

  /** Resolves once the worker runs, so that no measurement includes starting a thread. */
  static async start(wayName, program, onProgress) {
    const seat = new SeatInWorker()
    seat.#way = ways[wayName]
    seat.#onProgress = onProgress
    seat.#worker = new Worker(new URL(import.meta.url), { workerData: { wayName, program } })
    await once(seat.#worker, 'message')
    return seat
  }

  receive(data) {
    return this.#call('receive', this.#way.toHandle(data))
  }

  scan() {
    return this.#call('scan')
  }

  draw(colors) {
    return this.#call('draw', colors)
  }

  #call(method, argument) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        this.#worker.off('message', onMessage).off('error', onError)
        settle(value)
      }
      const onMessage = ({ progress, result }) =>
        progress ? this.#onProgress(...progress) : finish(resolve, result)
      const onError = error => finish(reject, error)
      this.#worker.on('message', onMessage).on('error', onError)
      this.#worker.postMessage({ method, argument })
    })
  }
}

// The worker's side: a SeatHere, called by messages.
if (!isMainThread) {
  const { wayName, program } = workerData
  const seat = new SeatHere(wayName, program, (...progress) => parentPort.postMessage({ progress }))
  parentPort.on('message', async ({ method, argument }) => {
    const data = method === 'receive' ? ways[wayName].fromHandle(argument) : argument
    parentPort.postMessage({ result: await seat[method](data) })
  })
  parentPort.postMessage('up')
}
